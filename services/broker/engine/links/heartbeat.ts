// How the two ends of a link find out that the other has died: the relay asks every beat, and either end
// gives the link up when it has heard nothing for some beats.

/** With SILENT_BEATS it bounds how long a dead owner goes unnoticed: 1.6 s. */
export const BEAT_MS = 400;
/**
 * How many silent beats the relay bears. The owner bears one more, so that the relay is the one to find out
 * first.
 */
export const SILENT_BEATS = 3;
