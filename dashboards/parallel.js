(function () {
  "use strict";
  var box = document.querySelector(".parallel");
  if (!box) return;
  var data = JSON.parse(document.getElementById("figures").textContent)[box.id];
  var axes = data.axes, rows = data.rows, brushes = axes.map(function () { return null; });
  var top = 62, bottom = 28, height = 400, side = 64;
  var canvas = document.createElement("canvas"), said = document.createElement("p");
  said.className = "soft";
  box.appendChild(canvas);
  box.parentNode.parentNode.insertBefore(said, box.parentNode.nextSibling);
  function position(axis, value) {
    if (value === null) return 0;
    if (axis.categories) return axis.categories.length < 2 ? 0.5 : value / (axis.categories.length - 1);
    var low = axis.log ? Math.log(axis.low) : axis.low, high = axis.log ? Math.log(axis.high) : axis.high;
    return high === low ? 0.5 : ((axis.log ? Math.log(value) : value) - low) / (high - low);
  }
  // Lines through one value of a choice are drawn side by side, so that many look like many.
  var places = rows.map(function (row, index) {
    return row.values.map(function (value, at) {
      var aside = axes[at].categories ? (((index * 0.618 + at * 0.37) % 1) - 0.5) * 0.05 : 0;
      return position(axes[at], value) + aside;
    });
  });
  function x(at, width) { return side + (at * (width - 2 * side)) / Math.max(axes.length - 1, 1); }
  function y(share) { return top + (1 - share) * (height - top - bottom); }
  function chosen(row) {
    return brushes.every(function (brush, at) { return !brush || (row[at] >= brush[0] && row[at] <= brush[1]); });
  }
  function short(text, most) { return text.length > most ? text.slice(0, most - 1) + "…" : text; }
  function draw() {
    var width = box.clientWidth, ratio = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = width + "px";
    canvas.style.height = height + "px";
    pen.scale(ratio, ratio);
    pen.clearRect(0, 0, width, height);
    var active = brushes.some(Boolean), kept = [], alpha = Math.max(0.04, Math.min(0.6, 40 / rows.length));
    function line(index, colour, opacity, thick) {
      pen.strokeStyle = colour;
      pen.globalAlpha = opacity;
      pen.lineWidth = thick;
      pen.beginPath();
      places[index].forEach(function (share, at) { pen[at ? "lineTo" : "moveTo"](x(at, width), y(share)); });
      pen.stroke();
    }
    rows.forEach(function (row, index) {
      if (chosen(places[index])) kept.push(index);
      else line(index, "#c3cad5", alpha / 2, 1);
    });
    var visible = Math.max(0.06, Math.min(0.7, 40 / Math.max(kept.length, 1)));
    kept.forEach(function (index) { if (!rows[index].front) line(index, active ? "#14804a" : "#8a94a6", visible, 1); });
    kept.forEach(function (index) { if (rows[index].front) line(index, "#2457d6", 0.9, 1.6); });
    pen.globalAlpha = 1;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    var room = Math.max(6, Math.floor((width - 2 * side) / Math.max(axes.length - 1, 1) / 6.6));
    axes.forEach(function (axis, at) {
      var left = x(at, width), many = axis.categories ? axis.categories.length : 0;
      pen.fillStyle = "#1f2937";
      pen.fillRect(left - 0.5, top, 1, height - top - bottom);
      pen.fillText(short(axis.name, room), left, at % 2 ? 14 : 32);
      pen.fillStyle = "#5b6576";
      function label(text, share, dy) {
        pen.strokeStyle = "white";
        pen.lineWidth = 3;
        pen.strokeText(short(text, room), left, y(share) + dy);
        pen.fillText(short(text, room), left, y(share) + dy);
      }
      if (many) {
        var every = Math.ceil(many / 16);
        axis.categories.forEach(function (name, index) { if (index % every === 0) label(name, position(axis, index), 4); });
      } else {
        label(axis.highText, 1, -4);
        label(axis.lowText, 0, 14);
      }
      if (brushes[at]) {
        pen.fillStyle = "rgba(20,128,74,0.3)";
        pen.fillRect(left - 8, y(brushes[at][1]), 16, Math.max(3, y(brushes[at][0]) - y(brushes[at][1])));
      }
    });
    var first = kept.slice().sort(function (a, b) { return rows[a].order - rows[b].order; }).slice(0, 8);
    said.textContent = (active ? kept.length + " of " + rows.length + " networks chosen" : rows.length + " networks") +
      (first.length ? "; the most accurate: trials " + first.map(function (index) { return rows[index].trial; }).join(", ") + "." : ".");
  }
  var dragged = null;
  function at(event) {
    var place = canvas.getBoundingClientRect(), width = box.clientWidth, nearest = 0;
    axes.forEach(function (_, index) {
      if (Math.abs(x(index, width) - event.clientX + place.left) < Math.abs(x(nearest, width) - event.clientX + place.left)) nearest = index;
    });
    var share = 1 - (event.clientY - place.top - top) / (height - top - bottom);
    return { axis: nearest, share: Math.max(-0.03, Math.min(1.03, share)) };
  }
  canvas.style.touchAction = "pan-x";
  canvas.addEventListener("pointerdown", function (event) {
    dragged = at(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", function (event) {
    if (!dragged) return;
    var share = at(event).share;
    brushes[dragged.axis] = [Math.min(share, dragged.share), Math.max(share, dragged.share)];
    draw();
  });
  canvas.addEventListener("pointerup", function (event) {
    if (dragged && Math.abs(at(event).share - dragged.share) < 0.015) brushes[dragged.axis] = null;
    dragged = null;
    draw();
  });
  window.addEventListener("resize", draw);
  draw();
})();
