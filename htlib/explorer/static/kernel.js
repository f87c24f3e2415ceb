// The engine of a widget: its kernel, which trains whatever is asked.

export function kernelEngine(model) {
  // Views of one model receive each other's answers.  The thousands of an id are the view, and random.
  const view = Math.floor(Math.random() * 1e9) * 1000;
  let count = 0;
  return {
    request(settings) {
      count += 1;
      const id = view + (count % 1000);
      model.send({ type: "request", id, settings });
      return id;
    },
    cancel(which) {
      model.send({ type: "cancel", id: which });
    },
    onMessage(callback) {
      model.on("msg:custom", callback);
      return () => model.off("msg:custom", callback);
    },
  };
}
