(() => {
  const picture = document.getElementById("map-picture");
  if (!picture) return;
  const points = [...document.querySelectorAll("#map-points use")];
  const places = points.map((point) => [point.x.baseVal.value, point.y.baseVal.value]);
  const told = document.getElementById("map-told");
  const ring = document.getElementById("map-ring");
  const person = document.getElementById("map-person");
  const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  let chosen = -1;
  const shown = (index) => person.value === "" || points[index].dataset.person === person.value;
  const choose = (index) => {
    chosen = index;
    const [x, y] = index < 0 ? [-20, -20] : places[index];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    told.textContent = index < 0 ? "No point is chosen." : points[index].querySelector("title").textContent;
  };
  const towards = ([dx, dy]) => {
    // The nearest point within 60 degrees of the direction; going aside costs more than going ahead.
    let best = -1;
    let least = Infinity;
    places.forEach(([x, y], index) => {
      const [ahead, aside] = [(x - places[chosen][0]) * dx + (y - places[chosen][1]) * dy,
        Math.abs((x - places[chosen][0]) * dy) + Math.abs((y - places[chosen][1]) * dx)];
      const cost = ahead + 2 * aside;
      if (ahead > 0 && aside < 1.7 * ahead && cost < least && shown(index)) [best, least] = [index, cost];
    });
    return best;
  };
  picture.addEventListener("keydown", (event) => {
    if (event.key !== "Home" && !(event.key in directions)) return;
    event.preventDefault();
    const next = event.key === "Home" || chosen < 0 ? points.findIndex((_, index) => shown(index)) : towards(directions[event.key]);
    if (next >= 0) choose(next);
  });
  picture.addEventListener("pointerover", (event) => {
    const index = points.indexOf(event.target.closest("use"));
    if (index >= 0) choose(index);
  });
  person.addEventListener("change", () => {
    picture.classList.toggle("choosing", person.value !== "");
    points.forEach((point, index) => point.classList.toggle("chosen", person.value !== "" && shown(index)));
    choose(person.value === "" ? -1 : points.findIndex((_, index) => shown(index)));
  });
})();
