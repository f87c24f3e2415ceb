// Give every block of frames (htlib/figures/frames.py) a slider, and a button that plays it when asked.
{
  const INTERVAL = 700; // milliseconds per frame

  function control(block) {
    const images = [...block.querySelectorAll("img")];
    if (images.length < 2) return;
    const name = block.dataset.name;
    const bar = document.createElement("div");
    bar.className = "frames-bar";
    const button = document.createElement("button");
    button.type = "button";
    const label = document.createElement("label");
    const slider = document.createElement("input");
    slider.type = "range";
    slider.max = String(images.length - 1);
    slider.value = String(images.findIndex((image) => !image.hidden));
    const output = document.createElement("output");
    output.setAttribute("aria-hidden", "true"); // the slider says it, and more
    label.append(name, slider);
    bar.append(button, label, output);

    let timer = 0;
    const show = () => {
      const at = Number(slider.value);
      images.forEach((image, place) => (image.hidden = place !== at));
      output.textContent = images[at].dataset.label;
      slider.setAttribute("aria-valuetext", `${name} ${output.textContent}: ${images[at].dataset.says}`);
    };
    const stop = () => {
      window.clearInterval(timer);
      timer = 0;
      button.textContent = "Play";
    };
    const next = () => {
      slider.value = String(Number(slider.value) + 1);
      show();
      if (slider.value === slider.max) stop();
    };
    button.addEventListener("click", () => {
      if (timer) return stop();
      if (slider.value === slider.max) slider.value = "0";
      show();
      timer = window.setInterval(next, INTERVAL);
      button.textContent = "Stop";
    });
    slider.addEventListener("input", () => {
      stop();
      show();
    });
    // Who asks for less motion moves the slider by hand.
    button.hidden = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    stop();
    show();
    block.append(bar);
  }

  document.querySelectorAll(".frames").forEach(control);
}
