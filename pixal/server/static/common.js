/* What all pages share: requests that write, problems, the name of the inspector, colours. */
const csrf = find('meta[name="csrf"]').content;

// Send a request that writes. Throws an error with the status of the answer; without an answer the status is 0.
async function post(address, body, type = "application/json") {
  const text = type === "application/json" ? JSON.stringify(body) : body;
  let answer;
  try {
    answer = await fetch(address, { method: "POST", headers: { "content-type": type, "x-pixal-csrf": csrf }, body: text });
  } catch {
    throw Object.assign(new Error("The server does not answer."), { status: 0 });
  }
  return content(answer);
}

async function get(address) {
  let answer;
  try {
    answer = await fetch(address);
  } catch {
    throw Object.assign(new Error("The server does not answer. Start pixal serve again."), { status: 0 });
  }
  return content(answer);
}

async function content(answer) {
  const text = await answer.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch { /* a plain line, see below */ }
  if (!answer.ok) throw Object.assign(new Error(value?.error || text || `Status ${answer.status}`), { status: answer.status });
  return value;
}

function showProblem(text) {
  find("#problem").textContent = text;
  find("#problem").hidden = !text;
}

const name = find("#inspector");
name.addEventListener("change", async () => {
  try {
    name.value = (await post("/inspector", { name: name.value })).name;
    showProblem("");
  } catch (error) {
    showProblem(error.message);
  }
});
name.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === "Escape") name.blur();
});

const root = document.documentElement;
const showColours = () => { find("#theme").textContent = `Colours: ${root.dataset.theme || "system"}`; };
find("#theme").addEventListener("click", () => {
  const next = { undefined: "dark", dark: "light" }[root.dataset.theme];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  try {
    if (next) localStorage.setItem("pixal-colours", next);
    else localStorage.removeItem("pixal-colours");
  } catch { /* the choice holds for this page */ }
  showColours();
});
showColours();
