/* The parts of a batch: counts that follow the batch, marks from a file, and keys. */
const counts = find("#counts");
const events = new EventSource(counts.dataset.events);
events.addEventListener("message", (event) => {
  const state = JSON.parse(event.data);
  for (const node of findAll("[data-count]")) node.textContent = state.counts[node.dataset.count];
  find("#news").hidden = state.version === counts.dataset.version;
});
addEventListener("pagehide", () => events.close());

find("#marks-file").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  if (!file) return;
  try {
    const found = await post(event.target.dataset.address, await file.arrayBuffer(), "text/csv");
    const unknown = found.unknown_count ? `, ${found.unknown_count} belong to no photograph here, for example ${found.unknown[0]}` : "";
    find("#imported").textContent = `${found.stored} stored, ${found.known} known before${unknown}`;
    showProblem("");
  } catch (error) {
    showProblem(error.message);
  }
  event.target.value = "";
});

for (const select of findAll(".filters select")) select.addEventListener("change", () => select.form.requestSubmit());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, button, a")) return;
  if (event.key === "Enter" && find("#review")) find("#review").click();
  if (event.key === "/") {
    event.preventDefault();
    find("#text").focus();
  }
});
