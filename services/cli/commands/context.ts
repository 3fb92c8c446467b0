// fanfare context add | select | list | show | remove: brokers under names of the user's own.
import { type CommonFlags, configFolder, resolveContext } from '../config.ts';
import {
  listContexts,
  readNamedContext,
  removeContext,
  selectContext,
  selectedContext,
  writeNamedContext,
} from '../context-store.ts';
import { notice } from '../notice.ts';
import { type OutputFormat, printList, printOne } from '../output.ts';

/** Takes the flags of any other command; what they leave open comes from the context in force. */
export async function addContext(
  name: string,
  flags: CommonFlags & { readonly select?: boolean },
): Promise<void> {
  const { address, project, tls } = await resolveContext(flags);
  const folder = configFolder();
  await writeNamedContext(folder, name, { address, project, ...(tls && { tls }) });
  if (flags.select) await selectContext(folder, name);
}

export async function select(name: string): Promise<void> {
  await selectContext(configFolder(), name);
}

export async function list(flags: { readonly output: OutputFormat }): Promise<void> {
  const folder = configFolder();
  const selected = await selectedContext(folder);
  const contexts = await Promise.all(
    (await listContexts(folder)).map(async (name) => ({
      name,
      selected: name === selected,
      ...(await readNamedContext(folder, name)),
    })),
  );
  if (contexts.length === 0 && flags.output === 'table')
    notice('no contexts yet: "fanfare context add NAME"');
  else {
    await printList(flags.output, contexts, {
      ' ': (context) => (context.selected ? '*' : ' '),
      name: (context) => context.name,
      address: (context) => context.address,
      project: (context) => context.project,
      tls: (context) => context.tls?.cert ?? 'none',
    });
  }
}

/** The context in force and where it comes from. */
export async function show(flags: CommonFlags): Promise<void> {
  await printOne(flags.output, await resolveContext(flags), {
    source: (context) => context.source,
    address: (context) => context.address,
    project: (context) => context.project,
    ca: (context) => context.tls?.ca ?? '-',
    certificate: (context) => context.tls?.cert ?? '-',
    key: (context) => context.tls?.key ?? '-',
  });
}

export async function remove(name: string): Promise<void> {
  await removeContext(configFolder(), name);
}
