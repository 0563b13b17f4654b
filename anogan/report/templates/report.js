(function () {
  "use strict";
  var list = document.getElementById("cards");
  if (!list) { return; }
  var cards = Array.prototype.slice.call(list.children);
  var buttons = document.querySelectorAll("[data-filter]");
  var order = document.getElementById("order");
  var find = document.getElementById("find");
  var none = document.getElementById("none");
  var wanted = "all";
  function show() {
    var text = find.value.toLowerCase(), n = 0;
    cards.forEach(function (card) {
      var fits = (wanted === "all" || card.dataset.verdict === wanted) &&
        card.dataset.name.toLowerCase().indexOf(text) >= 0;
      card.hidden = !fits;
      if (fits) { n += 1; }
    });
    none.hidden = n > 0;
  }
  buttons.forEach(function (button) {
    button.addEventListener("click", function () {
      wanted = button.dataset.filter;
      buttons.forEach(function (b) { b.setAttribute("aria-pressed", String(b === button)); });
      show();
    });
  });
  find.addEventListener("input", show);
  order.addEventListener("change", function () {
    var by = {
      worst: function (a, b) { return a.dataset.rank - b.dataset.rank; },
      best: function (a, b) { return b.dataset.rank - a.dataset.rank; },
      borderline: function (a, b) { return a.dataset.distance - b.dataset.distance; },
      name: function (a, b) { return a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }); }
    }[order.value];
    cards.sort(by).forEach(function (card) { list.appendChild(card); });
  });
  document.getElementById("tools").hidden = false;
})();
