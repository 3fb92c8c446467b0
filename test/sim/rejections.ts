// Catches the rejections that nobody else handles while a simulation runs.

/**
 * Nobody catches what the engine's loops throw: in production it ends the process, here the run. Resolves
 * with what `run` was rejected with.
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
