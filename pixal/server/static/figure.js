/* One figure, with zoom. */
const showFigure = () => (frame(photo.naturalWidth || 1, photo.naturalHeight || 1, []), fit());
if (photo.complete) showFigure();
photo.addEventListener("load", showFigure);
const keys = { "+": () => zoomBy(1.5), "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), 0: fit, Escape: () => history.back() };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
