// The beginning: the router, the live events and the shortcuts start, and the shell is shown.
import { render } from "preact";
import { startShortcuts } from "./keyboard";
import { startLive } from "./live";
import { startRouter } from "./router";
import { Shell } from "./shell";
import "./styles.css";

startRouter();
startShortcuts();
startLive();
render(<Shell />, document.getElementById("page")!);
