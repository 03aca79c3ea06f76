/* Before the page is painted: the colours that this browser was told to use. */
try {
  const kept = localStorage.getItem("pixal-colours");
  if (kept) document.documentElement.dataset.theme = kept;
} catch { /* without storage the colours are those of the system */ }
