// The state of the log and of what folds it.
export function OperationsView() {
  return <h1>Operations</h1>;
}
