// The guided tour: seven settings with a sentence each, whose numbers are those of the run in the picture.

import { format, make } from "./marks.js";
import { enable, press } from "./controls.js";

const START = { optimizer: "adam", teacher: "softplus", labels: "real", noise_std: 0.3, feature_scale: "paper", seed: 0 };

const last = ({ snapshots }) => snapshots.at(-1);
const beyond = (run) => {
  const { metrics, eigenvalues } = last(run), count = metrics.n_outliers;
  return `${count || "none"} of the ${eigenvalues.length} eigenvalues ${count === 1 ? "lies" : count ? "lie" : "lies"} beyond the noise edge`;
};
const went = (from, to) => `${to > from ? "rises" : to < from ? "falls" : "stays"} from ${format(from, 3)} to ${format(to, 3)}`;
const moved = (run, key) => went(run.snapshots[0].metrics[key], last(run).metrics[key]);
const times = (rate, threshold) => `${format(rate / threshold, 2)} times`;

// Their rates are rates of the stored runs; `pinned` says in what A differs, `play` that the run is shown step by step.
export const TOUR = [
  {
    title: "Noise. ", settings: { lr: 0.01, steps: 0 }, panel: "esd",
    say: (run) => `Before training the weights are Gaussian noise. Their spectrum follows the law of Marchenko and Pastur, the line; ${beyond(run)}, the dotted mark.`,
  },
  {
    title: "Bulk. ", settings: { lr: 0.01, steps: 1 }, panel: "esd",
    say: (run) => `One full-batch step of Adam at rate 0.01` +
      `${run.start.prediction ? `, ${times(0.01, run.start.prediction.critical_lr)} the critical rate of the spike` : ""}: ${beyond(run)}, and the Hill exponent is ${format(last(run).metrics.alpha_hill, 3)} where it was ${format(run.snapshots[0].metrics.alpha_hill, 3)} before training.`,
  },
  {
    title: "Bulk and spike. ", settings: { lr: 0.316, steps: 1 }, panel: "esd",
    say: (run) => {
      const { prediction } = run.start;
      return `At rate 0.316${prediction ? `, ${times(0.316, prediction.critical_lr)} the critical one` : ""}: ${beyond(run)}, and the largest is ` +
        `${format(last(run).eigenvalues.at(-1), 3)}${prediction?.has_outlier ? `. A closed form, the green line, predicts ${format(prediction.spectral_norm ** 2, 3)}; full batches have no gradient noise` : ""}.`;
    },
  },
  {
    title: "Overshoot. ", settings: { lr: 1, steps: 1 }, panel: "losses",
    say: (run) => {
      const unstable = run.start.prediction?.unstable_lr;
      return `${unstable ? `Rate 1 is ${times(1, unstable)} the rate at which the first step overshoots` : "Rate 1"}: the training loss ${moved(run, "train_loss")} in this one step.`;
    },
  },
  {
    title: "What looks like a heavy tail. ", settings: { lr: 1, steps: 10 }, panel: "esd", play: true, meanwhile: "Ten steps at rate 1, one after the other.",
    say: (run) => `Ten such steps move the whole bulk: ${beyond(run)}, and the Hill exponent ${moved(run, "alpha_hill")}.`,
  },
  {
    title: "Is it learning? ", settings: { lr: 1, steps: 10 }, panel: "alignment",
    say: (run) => {
      const one = run.snapshots[1]?.metrics.alignment, { alignment } = last(run).metrics;
      return `The first singular vector has an alignment of ${format(one, 2)} with the teacher after one step and of ${format(alignment, 2)} after ten; the test loss of the refit ${moved(run, "test_loss")}.`;
    },
  },
  {
    title: "Shuffled labels: same tail. ", settings: { lr: 1, steps: 10, labels: "shuffled" }, panel: "esd", pinned: { labels: "real" },
    say: (run, pinned) => `The same steps on shuffled labels, which hold nothing to learn, over the run before in grey: the Hill exponent is ` +
      `${format(last(run).metrics.alpha_hill, 3)}, with real labels ${pinned ? format(last(pinned).metrics.alpha_hill, 3) : "–"}; ${beyond(run)}. A tail is not evidence of features.`,
  },
];

// `go(step)` shows a step of the tour and resolves to its run and A, or to null if there is another step by then.
export function createTour(go, ended) {
  const text = make("p", { "aria-live": "polite" });
  const count = make("span", { class: "count" });
  let at = -1;
  const back = press("Back", () => visit(at - 1));
  const next = press("Next", () => (at === TOUR.length - 1 ? end() : visit(at + 1)));
  const card = make("section", { class: "tour", "aria-label": "guided tour", tabindex: -1, hidden: "" },
    text, make("div", {}, count, back, next, press("End tour", () => end())));

  async function visit(step) {
    at = step;
    count.textContent = `${step + 1} of ${TOUR.length}`;
    next.textContent = step === TOUR.length - 1 ? "Finish" : "Next";
    enable(back, step > 0);
    const title = make("strong", {}, TOUR[step].title);
    text.replaceChildren(title, TOUR[step].meanwhile ?? "");
    const shown = await go(TOUR[step]);
    if (at === step && shown) text.replaceChildren(title, shown.run ? TOUR[step].say(shown.run, shown.pinned) : "This run is not at hand.");
  }

  function begin() {
    card.hidden = false;
    card.scrollIntoView?.({ block: "nearest" });
    next.focus();
    return visit(0);
  }

  function end() {
    if (at < 0) return;
    at = -1;
    card.hidden = true;
    ended();
  }

  return { card, begin, end, running: () => at >= 0 };
}

export const settingsOf = (...changes) => Object.assign({ ...START }, ...changes);
