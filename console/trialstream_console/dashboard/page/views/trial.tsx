// One trial: its head, and tabs for everything that its log has.
import { useEffect, useMemo, useState } from "preact/hooks";
import { Failure, get, type TrialDetail } from "../api";
import { useFetched, useThrottled } from "../fetched";
import { useLive } from "../live";
import { Tabs, useTitle } from "../parts";
import { choice, link, useParam } from "../router";
import { Empty, Shown } from "../states";
import { ChronosTab } from "./trial/chronos";
import { CurvesTab } from "./trial/curves";
import { Head } from "./trial/head";
import { LiveRows } from "./trial/live-rows";
import { LogTab } from "./trial/log";
import { OutputTab } from "./trial/output";
import { OverviewTab } from "./trial/overview";
import { RanksTab } from "./trial/ranks";
import { TravelTab } from "./trial/travel";

const TABS = [
  ["curves", "Curves"], ["overview", "Overview"], ["chronos", "Chronos"], ["ranks", "Ranks"],
  ["output", "Output"], ["log", "Log"], ["travel", "Time travel"],
] as const;
type Tab = (typeof TABS)[number][0];

/** The rows of this many metrics are sent whether their charts are in view or not: the connection then stays as it is. */
const FEW_METRICS = 60;

/** The pause before the next look for a trial that is not folded yet, milliseconds. */
const AGAIN = 3000;

/** What each tab is given. `turn` counts the changes of the trial that the page has heard of. */
export interface TabProps {
  trial: TrialDetail;
  rows: LiveRows;
  turn: number;
  reload: () => void;
}

export function TrialView({ uid }: { uid: string }) {
  const path = `/trials/${encodeURIComponent(uid)}`;
  const answer = useFetched(path, (signal) => get<TrialDetail>(path, {}, signal));
  const rows = useMemo(() => new LiveRows(), []);
  const [shown, setShown] = useState<readonly string[]>([]);
  const [turn, setTurn] = useState(0);
  const reload = useThrottled(() => {
    answer.reload();
    setTurn((before) => before + 1);
  }, 1000);
  useEffect(() => rows.onNames(setShown), [rows]);
  const metrics = answer.data?.metrics ?? [];
  const curves = metrics.length <= FEW_METRICS ? metrics.map((each) => each.name).sort() : shown;
  useLive(answer.data === undefined ? null : { trial: uid, curves }, {
    trials: (event) => (event.more || event.uids.includes(uid)) && reload(),
    rows: (event) => rows.publish(event),
    reset: () => {
      rows.reset(uid);
      reload();
    },
  });
  useTitle(answer.data?.name ?? "Trial");
  const isPending = uid.includes("~") && answer.error instanceof Failure && answer.error.code === "not_found";
  useEffect(() => {
    if (!isPending) return;
    const timer = setTimeout(() => location.reload(), AGAIN); // the server leads to the trial once its revision is decided
    return () => clearTimeout(timer);
  }, [isPending]);
  const [tab] = useParam("tab", choice<Tab>(TABS.map(([name]) => name), "curves"));
  if (isPending) {
    return (
      <Empty title="Not in the database yet">
        The creation of this trial has not been folded. The page looks again every few seconds; meanwhile
        there are <a href="/trials">all trials</a> and the state of the consumers among <a href="/operations">operations</a>.
      </Empty>
    );
  }
  return (
    <Shown answer={answer} what="the trial">
      {(trial) => {
        const props: TabProps = { trial, rows, turn, reload };
        return (
          <div class="trial">
            <Head trial={trial} />
            <Tabs label="Parts of the trial" tabs={TABS} shown={tab} address={(each) => link(path, each === "curves" ? {} : { tab: each })} />
            {tab === "curves" && <CurvesTab {...props} />}
            {tab === "overview" && <OverviewTab {...props} />}
            {tab === "chronos" && <ChronosTab {...props} />}
            {tab === "ranks" && <RanksTab {...props} />}
            {tab === "output" && <OutputTab {...props} />}
            {tab === "log" && <LogTab {...props} />}
            {tab === "travel" && <TravelTab {...props} />}
          </div>
        );
      }}
    </Shown>
  );
}
