// Asks Python for the next look while something is being made: the next question when it has answered, or, should an
// answer get lost, a while after.
const PATIENCE = 1500; // milliseconds

export default function ({ parentElement, data, setTriggerValue }) {
  clearTimeout(parentElement.ticking);
  const ask = () => {
    setTriggerValue("tick", data.count);
    parentElement.ticking = setTimeout(ask, PATIENCE);
  };
  if (data.on) parentElement.ticking = setTimeout(ask, data.milliseconds);
  return () => clearTimeout(parentElement.ticking);
}
