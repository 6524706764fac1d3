/** @file The small form that asks for the API key. */

import { byId } from "./dom.js";
import { clearNotice, showError } from "./notices.js";

const USABLE = /^[\x21-\xff]+$/; // what a header can carry

/**
 * @param {boolean} refused whether a key was sent and not accepted
 * @returns {Promise<string|null>} null when the user declines
 */
export function askForKey(refused) {
  const dialog = byId("key-dialog");
  const field = byId("key");
  const cancel = byId("key-cancel");
  field.value = "";
  dialog.returnValue = "";
  clearNotice(byId("key-error"));
  dialog.showModal();
  field.focus();
  if (refused) showError(byId("key-error"), "The service did not accept this key.");
  cancel.onclick = () => dialog.close();
  dialog.querySelector("form").onsubmit = (event) => {
    if (USABLE.test(field.value.trim())) return;
    event.preventDefault();
    showError(byId("key-error"), "This cannot be a key: it has a space or a character that none has.");
  };
  return new Promise((resolve) => {
    const settle = () => resolve(dialog.returnValue === "ok" ? field.value.trim() : null);
    dialog.addEventListener("close", settle, { once: true });
  });
}
