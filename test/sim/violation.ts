// A broken promise of the broker, or of a port that it uses: what a simulation is there to find.
export class Violation extends Error {
  override readonly name = 'Violation';
}
