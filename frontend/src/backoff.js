// Delays between attempts to reconnect.

const FIRST_MS = 500;
const LONGEST_MS = 20_000;

/**
 * Milliseconds to wait before attempt number `attempt` (0 = first retry): doubling up to a limit,
 * with up to half of it left to chance, so that a restarted server is not met by every tab at once.
 */
export function delayMs(attempt, random = Math.random) {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  return Math.round(full * (0.5 + random() / 2));
}
