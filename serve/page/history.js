/** @file Earlier jobs: a list that keeps up with those that run. */

import { ApiError, callJson, content } from "./api.js";
import { byId, copyOf, sleep } from "./dom.js";
import { clearNotice, patiently, showError } from "./notices.js";
import { age, isUnfinished, statusWords } from "./words.js";

/** @typedef {import("./words.js").Job} Job */

const PAGE = 20;
const POLL_BUSY = 2000;
const POLL_IDLE = 30000;

export function createHistory() {
  const list = byId("history-list");
  const place = byId("history-error");
  /** @type {Job[]} Newest first. */
  let jobs = [];
  let hasMore = false;
  let loaded = false;
  let changes = 0;
  /** @type {string|null} */
  let current = null;
  /** @type {Map<string, HTMLElement>} */
  const items = new Map();
  let wake = () => {};
  let keyless = false;

  /** Keep the list true for as long as the page is open. */
  async function keep() {
    for (;;) {
      keyless = false;
      try {
        await refresh();
        clearNotice(place);
      } catch (error) {
        showError(place, error);
        keyless = error instanceof ApiError && error.status === 401;
        if (keyless) offerToEnterKey();
      }
      const pause = jobs.some(isUnfinished) && !document.hidden ? POLL_BUSY : POLL_IDLE;
      const woken = new Promise((resolve) => (wake = () => resolve(null)));
      await (keyless ? woken : Promise.race([sleep(pause), woken])); // to ask for a key over and over would nag
    }
  }

  function offerToEnterKey() {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Enter the key";
    button.addEventListener("click", () => wake());
    place.append(" ", button);
  }

  async function refresh() {
    const before = changes;
    const page = await patiently(() => callJson(`/v1/videos?limit=${PAGE}&order=desc`), place);
    if (changes !== before) return refresh(); // the page may be older than what the user just did
    const tail = rest(page);
    if (tail.length === 0) hasMore = page.has_more;
    const fresh = (await Promise.all(tail.map(freshened))).flat();
    if (changes !== before) return refresh();
    jobs = [...page.data, ...fresh];
    loaded = true;
    draw();
  }

  /** The jobs already loaded that come after a fresh first page; none where jobs are missing between. */
  function rest(page) {
    const last = jobs.findIndex((job) => job.id === page.last_id);
    return page.has_more && last >= 0 ? jobs.slice(last + 1) : [];
  }

  /** @returns {Promise<Job[]>} the job as it is now; none where it was deleted */
  async function freshened(job) {
    if (!isUnfinished(job)) return [job];
    try {
      return [await callJson(`/v1/videos/${encodeURIComponent(job.id)}`)];
    } catch (error) {
      return error instanceof ApiError && error.status === 404 ? [] : [job];
    }
  }

  async function more() {
    const last = jobs.at(-1);
    if (!last) return wake();
    try {
      const path = `/v1/videos?limit=${PAGE}&order=desc&after=${encodeURIComponent(last.id)}`;
      const page = await patiently(() => callJson(path), place);
      const known = new Set(jobs.map((job) => job.id));
      changes += 1;
      jobs.push(...page.data.filter((job) => !known.has(job.id)));
      hasMore = page.has_more;
      draw();
      items.get(page.data[0]?.id)?.querySelector("a")?.focus();
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) return showError(place, error);
      remove(last.id); // deleted elsewhere, or expired: nothing comes after it
      await more();
    }
  }

  function remove(/** @type {string} */ id) {
    changes += 1;
    jobs = jobs.filter((job) => job.id !== id);
    draw();
  }

  /** Bring the list in line with `jobs`; an item that stays keeps its element, and so its focus. */
  function draw() {
    const ids = new Set(jobs.map((job) => job.id));
    for (const [id, item] of items) if (!ids.has(id)) dropItem(id, item);
    jobs.forEach((job, index) => {
      const item = items.get(job.id) ?? newItem(job);
      fill(item, job);
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    });
    byId("history-empty").hidden = !loaded || jobs.length > 0;
    byId("more").hidden = !hasMore;
  }

  function newItem(/** @type {Job} */ job) {
    const item = copyOf("history-item");
    items.set(job.id, item);
    item.querySelector("a").href = `#${job.id}`;
    item.querySelector(".title").textContent = job.prompt;
    thumbnail(item, job.id);
    return item;
  }

  async function thumbnail(item, id) {
    try {
      const url = URL.createObjectURL(await content(id, "input"));
      const picture = item.querySelector("img");
      picture.src = url;
      picture.hidden = false;
      if (!items.has(id)) URL.revokeObjectURL(url);
    } catch {
      // The list is of use without it.
    }
  }

  function dropItem(id, item) {
    URL.revokeObjectURL(item.querySelector("img").src);
    item.remove();
    items.delete(id);
  }

  function fill(item, /** @type {Job} */ job) {
    const status = item.querySelector(".status");
    status.textContent = statusWords(job);
    status.dataset.status = job.status;
    const time = item.querySelector("time");
    time.dateTime = new Date(job.created_at * 1000).toISOString();
    time.textContent = age(job.created_at);
    if (job.id === current) item.querySelector("a").setAttribute("aria-current", "true");
    else item.querySelector("a").removeAttribute("aria-current");
  }

  byId("more").addEventListener("click", more);
  window.addEventListener("handi-key", () => wake());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !keyless) wake();
  });

  return {
    keep,
    /** News of a job, perhaps a new one. */
    note(/** @type {Job} */ job) {
      const index = jobs.findIndex((one) => one.id === job.id);
      if (index >= 0) {
        jobs[index] = job;
        draw();
      } else {
        wake();
      }
    },
    /** A job that was just accepted. */
    add(/** @type {Job} */ job) {
      changes += 1;
      jobs.unshift(job);
      draw();
      wake();
    },
    remove,
    /** Mark the job that is open. */
    mark(/** @type {string|null} */ id) {
      current = id;
      draw();
    },
  };
}
