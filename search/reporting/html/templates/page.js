"use strict";

// Every figure is drawn from the JSON inside its place, one after the other, so that the page can be read meanwhile.
async function drawAll() {
  const buttons = [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
  for (const place of document.querySelectorAll(".graph")) {
    const content = JSON.parse(place.querySelector("script").textContent);
    const displayModeBar = "tools" in place.dataset ? "hover" : false;
    const options = { responsive: true, displaylogo: false, displayModeBar, modeBarButtons: buttons };
    await Plotly.newPlot(place, content.data, content.layout, options);
  }
  document.body.dataset.drawn = "true";
}

function sortBy(table, column, sign) {
  const value = (row) => {
    const cell = row.cells[column];
    const text = "value" in cell.dataset ? cell.dataset.value : cell.textContent.trim();
    return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
  };
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what has no value comes last, either way
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const [column, heading] of [...table.tHead.rows[0].cells].entries()) {
    heading.addEventListener("click", () => {
      const sign = heading.dataset.sorted === "up" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) delete other.dataset.sorted;
      heading.dataset.sorted = sign === 1 ? "up" : "down";
      sortBy(table, column, sign);
    });
  }
}

const large = document.getElementById("large");
large.addEventListener("click", () => large.close());
for (const image of document.querySelectorAll(".picture img")) {
  image.addEventListener("click", () => {
    large.querySelector("img").src = image.src;
    large.showModal();
  });
}

drawAll();
