"use strict";
// The page reads without this; it sorts tables, saves figures, and opens the cell of a link.

const compare = (a, b, sign) => {
  // What has no value stays last, whichever way the rest is sorted.
  if (a === "" || b === "") return (a === "") - (b === "");
  const [x, y] = [Number(a), Number(b)];
  return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y);
};

const key = (row, column) => {
  const cell = row.cells[column];
  return "value" in cell.dataset ? cell.dataset.value : cell.textContent;
};

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const asWritten = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const order = next[heading.getAttribute("aria-sort")];
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const rows = [...asWritten];
      if (order !== "none") rows.sort((a, b) => compare(key(a, column), key(b, column), sign));
      body.append(...rows);
    });
  });
}

for (const drawing of document.querySelectorAll(".drawing")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "save";
  button.textContent = "Download as SVG";
  button.setAttribute("aria-label", `Download ${drawing.dataset.name}.svg`);
  button.addEventListener("click", () => {
    const copy = drawing.firstElementChild.cloneNode(true);
    copy.setAttribute("color", "#000");
    copy.setAttribute("font-family", "sans-serif");
    const blob = new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${drawing.dataset.name}.svg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  drawing.closest("figure").append(button);
}

addEventListener("beforeprint", () => {
  for (const legend of document.querySelectorAll(".legend")) legend.open = true;
});

const reveal = () => {
  const found = document.getElementById(location.hash.slice(1));
  for (let node = found; node; node = node.parentElement) {
    if (node.tagName === "DETAILS") node.open = true;
  }
  if (found) found.scrollIntoView();
};
addEventListener("hashchange", reveal);
if (location.hash) reveal();
