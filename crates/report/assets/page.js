// What the page does beyond being read. Everything is there without it; nothing is fetched.
"use strict";
document.documentElement.classList.add("js");

// Tables whose rows can be sorted by any column: a button in each head, within each condition.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.classList.contains("fixed")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numeric;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        // What was not measured stands last either way.
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      };
      for (const body of table.tBodies) {
        body.append(...[...body.rows].filter(row => !row.classList.contains("group")).sort(compare));
      }
    });
  });
}

// All numbers: a click on a metric sorts the columns of heads by it, the better ones first; another click the other way.
for (const table of document.querySelectorAll("table.wide")) {
  let sorted = null, down = true;
  for (const name of table.querySelectorAll("tbody .name")) {
    const row = name.closest("tr"), button = document.createElement("button");
    button.type = "button";
    button.append(...name.childNodes);
    name.append(button);
    button.addEventListener("click", () => {
      down = sorted === row ? !down : !row.querySelector(".better")?.textContent.startsWith("\u2193");
      sorted?.classList.remove("sorted");
      sorted = row;
      row.classList.add("sorted");
      const value = column => parseFloat(row.cells[column].textContent);
      const columns = [...row.cells].map((_, column) => column).slice(1).sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        // What was not measured stands last either way.
        return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : down ? y - x : x - y;
      });
      for (const other of table.rows) {
        if (other.cells.length > columns.length) other.append(...columns.map(column => other.cells[column]));
      }
    });
  }
}

// A folded table is printed too.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});
