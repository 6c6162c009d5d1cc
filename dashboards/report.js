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
})();
