// The broker's version, for other brokers and people. It must be package.json's.
export const VERSION = '0.1.0';
