(function () {
  "use strict";
  var figures = JSON.parse(document.getElementById("figures").textContent);
  var config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  var narrow = window.matchMedia("(max-width: 640px)").matches;
  function draw(element) {
    var figure = figures[element.id];
    if (narrow) {
      figure.layout.margin = { l: 46, r: 8, t: 30, b: 46 };
      figure.layout.font.size = 11;
      figure.layout.dragmode = false;
      config.displayModeBar = false;
    }
    Plotly.newPlot(element, figure.data, figure.layout, config);
  }
  document.querySelectorAll(".figure").forEach(draw);

  // A hint where something is wider than the screen.
  function hint(box) {
    var wide = box.scrollWidth > box.clientWidth + 4;
    var shown = box.previousElementSibling && box.previousElementSibling.classList.contains("hint");
    if (wide && !shown) {
      var sign = document.createElement("p");
      sign.className = "hint";
      sign.textContent = "scroll sideways \u2192";
      box.parentNode.insertBefore(sign, box);
    } else if (!wide && shown) {
      box.previousElementSibling.remove();
    }
  }
  function hints() {
    document.querySelectorAll(".scroll, pre").forEach(hint);
  }
  hints();
  window.addEventListener("resize", hints);
  document.querySelectorAll("details").forEach(function (part) {
    part.addEventListener("toggle", hints);
  });

  // A picture fills the window until the next click or key.
  document.querySelectorAll("img.enlarges").forEach(function (picture) {
    function enlarge() {
      var cover = document.createElement("div");
      cover.className = "cover";
      cover.tabIndex = -1;
      cover.appendChild(picture.cloneNode());
      function close() {
        cover.remove();
        picture.focus();
      }
      cover.addEventListener("click", close);
      cover.addEventListener("keydown", close);
      document.body.appendChild(cover);
      cover.focus();
    }
    picture.tabIndex = 0;
    picture.addEventListener("click", enlarge);
    picture.addEventListener("keydown", function (event) {
      if (event.key === "Enter") enlarge();
    });
  });

  // A click on a heading sorts its table by that column, a second one the other way round. What is not known stays last.
  function key(cell) {
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return cell.classList.contains("number") ? parseFloat(cell.textContent) : cell.textContent;
  }
  function sortBy(heading) {
    var table = heading.closest("table");
    var column = heading.cellIndex;
    var descending = heading.getAttribute("aria-sort") === "ascending";
    var rows = Array.from(table.tBodies[0].rows).map(function (row) {
      return { row: row, key: key(row.cells[column]) };
    });
    rows.sort(function (a, b) {
      if (Number.isNaN(a.key) || Number.isNaN(b.key)) return Number.isNaN(a.key) - Number.isNaN(b.key);
      var order = typeof a.key === "number" && typeof b.key === "number" ? a.key - b.key : String(a.key).localeCompare(String(b.key));
      return descending ? -order : order;
    });
    table.querySelectorAll("th").forEach(function (other) {
      other.removeAttribute("aria-sort");
    });
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    rows.forEach(function (item) {
      table.tBodies[0].appendChild(item.row);
    });
  }
  document.querySelectorAll("thead th").forEach(function (heading) {
    heading.tabIndex = 0;
    heading.title = "sort";
    heading.addEventListener("click", function () {
      sortBy(heading);
    });
    heading.addEventListener("keydown", function (event) {
      if (event.key === "Enter") sortBy(heading);
    });
  });
})();
