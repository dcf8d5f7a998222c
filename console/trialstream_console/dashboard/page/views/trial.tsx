// One trial.
export function TrialView({ uid }: { uid: string }) {
  return <h1>{uid}</h1>;
}
