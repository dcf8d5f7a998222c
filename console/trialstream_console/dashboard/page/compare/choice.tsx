// A choice among paths of columns or names of metrics.
import { cut } from "../format";
import { heading } from "../table/paths";

const SHOWN = 300;

export function PathChoice({ label, paths, value, onValue, none }: {
  label: string;
  paths: readonly string[];
  value: string;
  onValue: (path: string) => void;
  none?: string;
}) {
  const shown = paths.slice(0, SHOWN);
  return (
    <label>
      {label}{" "}
      <select value={value} onChange={(event) => onValue(event.currentTarget.value)}>
        {none !== undefined && <option value="">{none}</option>}
        {value && !shown.includes(value) && <option value={value}>{nameOf(value)}</option>}
        {shown.map((each) => <option key={each} value={each}>{nameOf(each)}</option>)}
      </select>
    </label>
  );
}

function nameOf(path: string): string {
  const { over, label } = heading(path);
  return over && over !== "parameter" ? `${cut(label, 60)} · ${over}` : cut(label, 60);
}

export function NameChoice({ label, names, value, onValue }: { label: string; names: readonly string[]; value: string; onValue: (name: string) => void }) {
  return (
    <label>
      {label}{" "}
      <select value={value} onChange={(event) => onValue(event.currentTarget.value)}>
        {value && !names.includes(value) && <option value={value}>{cut(value, 60)}</option>}
        {names.slice(0, SHOWN).map((each) => <option key={each} value={each}>{cut(each, 60)}</option>)}
      </select>
    </label>
  );
}
