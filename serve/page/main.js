/** @file The page: its parts, and the address that says which job is open. */

import { onKeyNeeded } from "./api.js";
import { createComposer } from "./compose.js";
import { byId } from "./dom.js";
import { createHistory } from "./history.js";
import { createJobView } from "./job.js";
import { askForKey } from "./key.js";

const history = createHistory();
const composer = createComposer((job) => {
  history.add(job);
  location.hash = job.id;
});
const view = createJobView({
  change: history.note,
  gone(id) {
    history.remove(id);
    if (idInAddress() !== id) return;
    window.history.replaceState(null, "", location.pathname);
    history.mark(null);
    byId("history-title").focus();
  },
  async reuse(job, picture, mask) {
    await composer.startFrom(job, picture, mask);
    byId("compose").scrollIntoView({ block: "start" });
    byId("prompt").focus({ preventScroll: true });
  },
});

function idInAddress() {
  return /^#(video_[0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;
}

function openFromAddress() {
  const id = idInAddress();
  history.mark(id);
  if (id === null) view.close();
  else view.open(id);
}

window.addEventListener("hashchange", () => {
  openFromAddress();
  if (idInAddress() === null) return;
  byId("job-title").focus({ preventScroll: true });
  byId("job").scrollIntoView({ block: "nearest" });
});

// The address of the job that is open already makes no hashchange; its view may have stopped.
byId("history-list").addEventListener("click", (event) => {
  if (event.target.closest("a")?.hash === location.hash) openFromAddress();
});

window.addEventListener("handi-key", () => {
  composer.begin();
  if (view.id() === null) openFromAddress();
});

onKeyNeeded(askForKey);
openFromAddress();
composer.begin();
history.keep();
