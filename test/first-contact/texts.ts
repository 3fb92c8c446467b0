// The commands that our texts tell people to type, taken out of them as they stand.

/**
 * The commands of the code blocks without a language below a heading of the README, without the comments
 * behind them.
 */
export function commandsOfReadme(readme: string, heading: string): string[] {
  const [, section] = readme.split(`\n## ${heading}\n`);
  if (section === undefined) throw new Error(`the README has no section "${heading}"`);
  const blocks = section.split('\n## ')[0]!.matchAll(/^```(\w*)\n(.*?)^```$/gms);
  const commands = [...blocks].flatMap(([, language, block]) =>
    language === '' ? block!.trim().split('\n').map(withoutComment) : [],
  );
  if (commands.length === 0) throw new Error(`the README's section "${heading}" has no commands`);
  return commands;
}

/**
 * The commands of a ready broker's or cluster's greeting: the lines indented by four below "In a second
 * terminal", without comments.
 */
export function commandsOfGreeting(text: string): string[] {
  const [, greeting] = text.split('In a second terminal');
  if (greeting === undefined) throw new Error(`there is no greeting in:\n${text}`);
  return [...greeting.matchAll(/^ {4}(\S.*)$/gm)].map(([, line]) => withoutComment(line!));
}

function withoutComment(line: string): string {
  return line.replace(/\s+# .*$/, '');
}
