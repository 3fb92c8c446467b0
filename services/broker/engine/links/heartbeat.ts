// How the two ends of a link find out that the other has died: the relay asks every beat, and either end gives the link up when
// it has heard nothing for some beats.

/** With SILENT_BEATS it bounds how long a dead owner goes unnoticed: 1.6 s. */
export const BEAT_MS = 400;
/** The relay's patience. The owner has one more, so that the relay is the one to find out first. */
export const SILENT_BEATS = 3;
