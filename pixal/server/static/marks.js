/* Marks on their way to the server. They wait here, also over a reload, until it says that they are stored. */
const base = find("#review").dataset.address;
const storage = `pixal-waiting:${base}`;
const REFUSED = [400, 404, 409, 413, 422]; // what a request will not change by being repeated
const RETRY = 1500; // milliseconds
let waiting = [], sending = false;
try {
  waiting = JSON.parse(sessionStorage.getItem(storage)) || [];
} catch { /* without storage they wait only as long as the page is open */ }

function keepWaiting() {
  try {
    sessionStorage.setItem(storage, JSON.stringify(waiting));
  } catch { /* see above */ }
  find("#waiting").hidden = !waiting.length || sending === "first";
}

// Send a change of the marks. ``onStored`` gets the action and the answer.
function sendMark(action) {
  waiting.push(action);
  keepWaiting();
  sendWaiting();
}

async function sendWaiting() {
  if (sending) return;
  while (waiting.length) {
    const action = waiting[0];
    sending = "first";
    try {
      const answer = await post(base + action.path, action.body);
      waiting.shift();
      onStored(action, answer);
    } catch (error) {
      if (REFUSED.includes(error.status)) {
        waiting.shift();
        onRefused(action, error);
      } else {
        sending = "again";
        const many = waiting.length === 1 ? "1 mark is" : `${waiting.length} marks are`;
        find("#waiting").textContent = `${many} not stored yet: ${error.message} They are sent again until the server has stored them.`;
        keepWaiting();
        await new Promise((done) => setTimeout(done, RETRY));
      }
    }
    keepWaiting();
  }
  sending = false;
  keepWaiting();
  refreshMarks();
}

addEventListener("beforeunload", (event) => {
  if (waiting.length) event.preventDefault();
});
