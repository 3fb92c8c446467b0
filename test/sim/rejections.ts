// Catches what nobody else does while a simulation runs. Used by run.ts and cluster/run.ts.

/**
 * What the engine's loops throw has nobody to catch it: in production it ends the process, here the run. Returns what
 * `run` was rejected with.
 */
export async function withRejections(
  onRejection: (error: unknown) => void,
  run: () => Promise<void>,
): Promise<unknown> {
  const others = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', onRejection);
  try {
    await run();
    return undefined;
  } catch (error) {
    return error;
  } finally {
    process.removeListener('unhandledRejection', onRejection);
    for (const other of others) process.on('unhandledRejection', other);
  }
}
