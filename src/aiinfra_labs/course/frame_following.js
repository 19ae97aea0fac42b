  const changes = TRAITS.map((name) => [`change:${name}`, () => take(name, model.get(name))]);
  for (const [event, listener] of changes) model.on(event, listener);

  let width = 0;
  const observer = new ResizeObserver(() => {
    if (root.clientWidth !== width) draw();
    width = root.clientWidth;
  });
  observer.observe(root);
  draw();
  return () => {
    observer.disconnect();
    for (const [event, listener] of changes) model.off(event, listener);
  };
