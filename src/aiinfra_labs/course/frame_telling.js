  function take(name, value) {
    state[name] = value;
    draw();
  }

  function tell(name, value) {
    take(name, value);
    model.set(name, value);
    model.save_changes(); // to Python, when there is a kernel
  }

  slider.addEventListener("input", () => tell("step", Number(slider.value)));
