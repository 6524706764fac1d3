/** @file The picture: dropped, chosen, pasted or an example. */

import { callBlob, callJson } from "./api.js";
import { byId, copyOf } from "./dom.js";
import { clearNotice, showError } from "./notices.js";

/**
 * @param {(file: File, prompt: string|null) => void} onPick a picture that can be shown;
 *   an example brings its instruction along
 */
export function createScene(onPick) {
  const place = byId("file-error");
  const picture = byId("picture");
  const section = byId("scene");
  const input = byId("file");

  let latest = 0; // a large picture, or an example still loading, must not win over a later choice

  /**
   * @param {File} file
   * @param {string|null} [prompt]
   */
  async function pick(file, prompt = null) {
    const turn = ++latest;
    clearNotice(place);
    const url = URL.createObjectURL(file);
    const probe = new Image();
    probe.src = url;
    try {
      await probe.decode();
    } catch {
      URL.revokeObjectURL(url);
      if (turn !== latest) return;
      showError(place, `"${file.name}" is not a picture that can be opened. Choose a JPEG, PNG or WebP file.`);
      return;
    }
    if (turn !== latest) return URL.revokeObjectURL(url);
    URL.revokeObjectURL(picture.src);
    picture.src = url;
    byId("stage").hidden = false;
    section.classList.add("full");
    byId("examples").open = false;
    onPick(file, prompt);
  }

  input.addEventListener("change", () => {
    if (input.files[0]) pick(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // a picture that misses the zone must not replace the page
    section.classList.toggle("over", section.contains(/** @type {Node} */ (event.target)));
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) section.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    section.classList.remove("over");
    const file = event.dataTransfer?.files[0];
    if (file && section.contains(/** @type {Node} */ (event.target))) pick(file);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    // Text copied from an office program brings a picture of itself along.
    const text = event.clipboardData?.types.includes("text/plain");
    if (!file || (text && event.target instanceof HTMLInputElement)) return;
    event.preventDefault();
    pick(file);
  });

  async function offerExamples() {
    const examples = await callJson("/examples");
    byId("examples").hidden = examples.length === 0;
    const list = byId("examples").querySelector("ul");
    list.replaceChildren();
    for (const example of examples) {
      const item = copyOf("example-item");
      item.querySelector("img").src = example.url;
      item.querySelector("span").textContent = example.prompt;
      item.querySelector("button").addEventListener("click", async () => {
        const turn = ++latest;
        try {
          const blob = await callBlob(example.url);
          if (turn !== latest) return;
          await pick(new File([blob], example.name, { type: blob.type }), example.prompt);
        } catch (error) {
          if (turn === latest) showError(place, error);
        }
      });
      list.append(item);
    }
  }

  return { pick, offerExamples };
}
