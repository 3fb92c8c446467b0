// What this broker is, for other brokers and people. Changed with package.json (a repository test compares them).
export const VERSION = '0.1.0';
