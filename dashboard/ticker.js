// Asks Python for the next look while something is being made: one question at a time, the next when it has answered.
export default function ({ parentElement, data, setTriggerValue }) {
  clearTimeout(parentElement.ticking);
  if (data.on) parentElement.ticking = setTimeout(() => setTriggerValue("tick", data.count), data.milliseconds);
  return () => clearTimeout(parentElement.ticking);
}
