// Click on a head sorts the table of nuclei by that column; cells without a number stay last.
document.querySelectorAll("table.sortable").forEach((table) => {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const rising = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const numeric = head.dataset.numeric !== undefined;
    const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b)) * (rising ? 1 : -1);
    const rows = Array.from(table.tBodies[0].rows).map((row) => [key(row), row]);
    rows.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : compare(a, b)));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
});
