(function () {
  "use strict";
  var REFRESH_MS = 10000, drawn = {}, query = new URLSearchParams(window.location.search);
  function byId(id) { return document.getElementById(id); }
  function element(tag, text) {
    var made = document.createElement(tag);
    made.textContent = text;
    return made;
  }
  function fill(parent, children) { parent.replaceChildren.apply(parent, children); }
  function showStudies(studies) {
    fill(byId("studies"), studies.map(function (study) {
      var label = document.createElement("label"), box = document.createElement("input");
      box.type = "checkbox";
      box.checked = study.shown;
      box.addEventListener("change", function () {
        var chosen = studies.filter(function (other) { return other === study ? box.checked : other.shown; });
        query = new URLSearchParams(chosen.map(function (other) { return ["study", other.id]; }));
        window.history.replaceState(null, "", "?" + query);
        refresh();
      });
      label.append(box, " " + study.name);
      return label;
    }));
  }
  function showTable(data) {
    var row = document.createElement("tr");
    fill(row, data.heads.map(function (head) { return element("th", head); }));
    fill(byId("heads"), [row]);
    fill(byId("rows"), data.rows.map(function (cells) {
      var line = document.createElement("tr");
      fill(line, cells.map(function (cell) { return element("td", cell); }));
      return line;
    }));
    byId("tabletitle").textContent = data.tiles.length ? "Running now" : "Comparison";
    byId("norows").textContent = data.rows.length ? "" : "No trial is running.";
  }
  function showFigures(figures) {
    var wanted = figures.map(function (figure) { return figure.title; });
    Object.keys(drawn).forEach(function (title) {
      if (wanted.indexOf(title) < 0) {
        drawn[title].section.remove();
        delete drawn[title];
      }
    });
    figures.forEach(function (figure) {
      var place = drawn[figure.title];
      if (!place) {
        place = drawn[figure.title] = { section: document.createElement("section"), box: document.createElement("div") };
        place.box.className = "figure";
        place.section.append(element("h2", figure.title), place.box);
        byId("figures").append(place.section);
      }
      // A zoom lasts as long as the user keeps it.
      figure.layout.uirevision = figure.title;
      if (window.innerWidth < 640) figure.layout.margin = { l: 46, r: 8, t: 30, b: 46 };
      Plotly.react(place.box, figure.data, figure.layout, { responsive: true, displaylogo: false });
    });
  }
  function refresh() {
    return fetch("/paretoseg/data?" + query, { credentials: "same-origin" }).then(function (answer) {
      if (!answer.ok) throw new Error("status " + answer.status);
      return answer.json();
    }).then(function (data) {
      byId("title").textContent = data.title;
      document.title = data.title + " · paretoseg";
      showStudies(data.studies);
      fill(byId("tiles"), data.tiles.map(function (pair) {
        var tile = document.createElement("div");
        tile.className = "tile";
        tile.append(element("b", pair[0]), element("span", pair[1]));
        return tile;
      }));
      showTable(data);
      showFigures(data.figures);
      byId("about").textContent = "as of " + new Date().toLocaleTimeString() + ", read again every 10 s; choose several studies to compare them";
    }).catch(function (error) {
      byId("about").textContent = "The dashboard does not answer (" + error.message + "). It is tried again every 10 s.";
    });
  }
  function turn() {
    var done = document.hidden ? Promise.resolve() : refresh();
    done.then(function () { window.setTimeout(turn, REFRESH_MS); });
  }
  turn();
})();
