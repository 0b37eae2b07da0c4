/** On a phone the rows of `.table` become blocks (style.css); each cell then says itself what its column is called. */
export function installTables(document: Document): void {
  for (const table of document.querySelectorAll<HTMLTableElement>("table.table")) {
    const names = [...table.querySelectorAll("thead th")].map((cell) =>
      cell.querySelector(".visually-hidden") ? "" : (cell.textContent ?? "").trim(),
    );
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.children].forEach((cell, column) => {
        if (cell instanceof HTMLElement && names[column]) cell.dataset.label = names[column];
      });
    }
  }
}
