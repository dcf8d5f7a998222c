// The state of the log and of what folds it: lag, rates, dead letters, projections, topics, consumers, the spool.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, type Operations } from "../api";
import { useFetched } from "../fetched";
import { useConnection, useLive } from "../live";
import { useAbout } from "../about";
import { useTitle } from "../parts";
import { Shown } from "../states";
import { Consumers, Projections, Spool, Topics } from "./operations/lists";
import { DeadLetterCard } from "./operations/dead-letters";
import { Partitions, Figures, type History } from "./operations/partitions";

/** The time between two looks, milliseconds: each asks Kafka for the ends of all partitions. */
const LOOK = 2000;
/** Looks that the sparklines show: two minutes. */
const KEPT = 60;

export function OperationsView() {
  useTitle("Operations");
  const answer = useFetched("operations", (signal) => get<Operations>("/operations", {}, signal));
  useLive({}, {});
  const history = useHistory(answer.data);
  const { reload } = answer;
  useEffect(() => {
    const timer = setInterval(() => document.hidden || reload(), LOOK);
    return () => clearInterval(timer);
  }, [reload]);
  const about = useAbout();
  const { servers } = useConnection();
  const kafka = servers?.kafka ?? about?.kafka ?? "ok";
  return (
    <>
      <div class="title"><h1>Operations</h1>{about && <span class="muted">{about.prefix && `prefix ${about.prefix}`}{about.projection && ` · projection ${about.projection}`}</span>}</div>
      {kafka === "off" && <p class="notice" role="status">This dashboard runs without Kafka: start it with the address of the brokers to see lag, topics and raw events.</p>}
      <Shown answer={answer} what="the state of the log">
        {(operations) => (
          <>
            {operations.troubles.map((each) => <p key={each} class="notice" role="status">{each}</p>)}
            <Figures operations={operations} history={history} />
            <div class="cards wide">
              <Partitions operations={operations} history={history} />
              <DeadLetterCard count={operations.dead_letters} />
              <Projections operations={operations} />
              <Consumers operations={operations} />
              <Topics operations={operations} />
              <Spool operations={operations} />
            </div>
          </>
        )}
      </Shown>
    </>
  );
}

/** What the looks of this page have seen: rates and lags, the last at the end. */
function useHistory(operations: Operations | undefined): History {
  const kept = useRef<History>({ rate: [], lag: [], partitions: new Map() });
  const [, setTurn] = useState(0);
  useEffect(() => {
    if (operations === undefined) return;
    const { rate, lag, partitions } = kept.current;
    const push = (values: number[], value: number) => values.splice(0, values.length, ...[...values, value].slice(-KEPT));
    push(rate, operations.partitions.reduce((sum, each) => sum + (each.rate ?? 0), 0));
    push(lag, operations.partitions.reduce((sum, each) => sum + (each.lag ?? 0), 0));
    for (const each of operations.partitions) {
      const key = `${each.topic} ${each.partition}`;
      if (!partitions.has(key)) partitions.set(key, []);
      push(partitions.get(key)!, each.rate ?? 0);
    }
    setTurn((before) => before + 1);
  }, [operations]);
  return kept.current;
}
