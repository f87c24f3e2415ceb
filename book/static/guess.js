// A guess before the answer.  htlib.chapters.ask writes <div class="guess"> with the answer in its data and in a
// <details>, which stays where this script does not run.
{
  for (const box of document.querySelectorAll("div.guess")) {
    const { answer, spread, text, low, high, scale, unit } = box.dataset;
    const isLog = scale === "log";
    const onScale = isLog ? Math.log : Number;
    const [start, end] = [onScale(low), onScale(high)];
    const place = (value) => (onScale(value) - start) / (end - start);
    // Three digits: finer than a step of the slider.
    const rounded = (value) => Number(value.toPrecision(3));
    const shown = (value) => `${value.toLocaleString("en", { maximumSignificantDigits: 3, useGrouping: false })}${unit}`;

    const make = (tag, properties, ...children) => {
      const element = Object.assign(document.createElement(tag), properties);
      element.append(...children);
      return element;
    };
    const slider = make("input", { type: "range", min: 0, max: 200, value: 100 });
    slider.setAttribute("aria-labelledby", box.querySelector("p").id);
    const number = make("span", { className: "guess-number" });
    const button = make("button", { type: "button", textContent: "Compare with the run" });
    const verdict = make("p", { className: "guess-verdict" });
    verdict.setAttribute("role", "status");
    const guessed = () => {
      const at = start + ((end - start) * slider.value) / slider.max;
      return rounded(isLog ? Math.exp(at) : at);
    };
    const mark = (name, value, label) => {
      const one = make("span", { className: `guess-mark ${name}` }, make("span", { textContent: label }));
      one.style.left = `${100 * Math.min(1, Math.max(0, place(value)))}%`;
      return one;
    };
    const line = make("div", { className: "guess-line", hidden: true });
    line.setAttribute("aria-hidden", "true"); // the verdict has the same in words

    const show = () => {
      number.textContent = shown(guessed());
      slider.setAttribute("aria-valuetext", number.textContent);
    };
    const compare = () => {
      const guess = guessed();
      const [mean, step] = [Number(answer), (end - start) / slider.max];
      const near = Math.abs(guess - mean) <= 2 * spread || Math.abs(onScale(guess) - onScale(mean)) <= step;
      const factor = Math.max(guess / mean, mean / guess);
      const off = isLog ? `a factor of ${shown(factor).replace(unit, "")}` : shown(Math.abs(guess - mean));
      const way = guess > mean ? "too high" : "too low";
      verdict.textContent =
        `You: ${shown(guess)}. The run: ${text}. ` + (near ? "That is it." : `Your guess is ${off} ${way}.`);
      line.replaceChildren(mark("yours", guess, "you"), mark("run", mean, "run"));
      line.hidden = false;
    };
    slider.addEventListener("input", show);
    button.addEventListener("click", compare);
    show();
    box.querySelector("details").replaceWith(make("div", { className: "guess-form" }, slider, number, button), line, verdict);
  }
}
