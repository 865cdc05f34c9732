"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const show = (node, visible) => { node.hidden = !visible; };

  // The divide: the slider's value is where the upper picture begins.
  const divide = (slider) => {
    const stack = slider.closest(".stack");
    stack.style.setProperty("--cut", `${slider.value}%`);
    const [left, right] = all(".tag", stack).map((tag) => tag.textContent);
    slider.setAttribute(
      "aria-valuetext", `${slider.value} % ${left}, ${100 - slider.value} % ${right}`);
  };
  const sliders = all(".stack input");
  for (const slider of sliders) {
    slider.addEventListener("input", () => divide(slider));
    divide(slider);
  }

  // Whose pictures lie on either side.
  const left = document.querySelector(".choose-left");
  const right = document.querySelector(".choose-right");
  const choosePictures = () => {
    for (const slider of sliders) {
      const stack = slider.closest(".stack");
      for (const image of all("img", stack)) {
        const who = image.dataset.who;
        image.classList.toggle("under", who === left.value);
        image.classList.toggle("over", who === right.value);
        show(image, who === left.value || who === right.value);
      }
      stack.querySelector(".tag.left").textContent = left.value;
      stack.querySelector(".tag.right").textContent = right.value;
      divide(slider);
    }
  };
  for (const choice of [left, right]) choice.addEventListener("change", choosePictures);

  // One layer at a time.
  const chooseLayer = (network, place) => {
    for (const [i, layer] of all(".layer", network).entries()) show(layer, i === place);
  };
  const choices = all(".choose-layer");
  for (const choice of choices) {
    const network = choice.closest(".of");
    choice.addEventListener("change", () => chooseLayer(network, Number(choice.value)));
    chooseLayer(network, Number(choice.value));
  }
  const number = (node) => node.closest(".of").dataset.of;
  for (const link of all("a[data-layer]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const choice = choices.find((other) => number(other) === number(link));
      choice.value = link.dataset.layer;
      choice.dispatchEvent(new Event("change"));
      choice.closest("section").scrollIntoView();
      choice.focus({ preventScroll: true });
    });
  }

  // One network at a time.
  const chooseNetwork = (of) => {
    for (const part of all(".of")) show(part, part.dataset.of === of);
    for (const image of all("[data-error]")) show(image, image.dataset.error === of);
  };
  for (const radio of all("input[name=network]")) {
    radio.addEventListener("change", () => {
      chooseNetwork(radio.value);
      right.value = radio.dataset.title;
      choosePictures();
    });
    if (radio.checked) chooseNetwork(radio.value);
  }

  // Tables sort by a heading: numbers from the largest at first, then the other way round.
  const sort = (button) => {
    const heading = button.closest("th");
    const column = heading.cellIndex;
    const before = heading.getAttribute("aria-sort");
    const first = column === 0 ? "ascending" : "descending";
    const other = column === 0 ? "descending" : "ascending";
    const order = before === first ? other : first;
    for (const sibling of heading.parentNode.cells) sibling.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", order);
    const value = (row) => {
      const read = Number(row.cells[column].dataset.value);
      return Number.isNaN(read) ? -Infinity : read;
    };
    const sign = order === "ascending" ? 1 : -1;
    const body = heading.closest("table").tBodies[0];
    const rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => (a === b ? 0 : a < b ? -sign : sign));
    body.append(...rows.map(([, row]) => row));
  };
  for (const button of all(".layers th button")) {
    button.addEventListener("click", () => sort(button));
  }
})();
