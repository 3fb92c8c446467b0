// Kind Fanfare: how to reach a broker. Topics and Subscriptions of the same namespace refer to it by name.
import { object, optional, type TypeOf, text, time, unchanging } from '../schema.ts';
import { objectName, projectName } from './common-fields.ts';
import { conditionFields, type WithConditions } from './conditions.ts';
import { kindNames, type Resource } from './group.ts';

export const FANFARES = kindNames('Fanfare', 'fanfares', ['ff']);

/** A port: 1 to 65535. */
const PORT = '([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])';
const MAX_ADDRESS = 262;

export const fanfareSpec = object(
  'How to reach a broker, and as whom.',
  {
    address: text('host:port of a broker, or of the Service before several; an IPv6 address in brackets.', {
      min: 3,
      max: MAX_ADDRESS,
      pattern: `^(\\[[0-9A-Fa-f:.]+\\]|[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?):${PORT}$`,
    }),
    tls: object('Mutual TLS.', {
      secretName: objectName(
        "A Secret of this namespace with tls.crt and tls.key (the client's certificate) and ca.crt (who signs brokers). Read anew when it changes.",
      ),
      serverName: optional(
        text("The name in the broker's certificate, if it isn't the address's host.", {
          min: 1,
          max: 253,
          pattern: '^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$',
        }),
      ),
    }),
    project: optional(
      projectName(
        'The project in the broker, whose topics and subscriptions these are; absent: the namespace. Immutable.',
      ),
    ),
  },
  { rules: [unchanging('project', 'project')] },
);

export const fanfareStatus = object('What was seen of it last.', {
  ...conditionFields,
  project: optional(text('The project in use.', { max: 255 })),
  certificateExpiryTime: optional(time("When the client's certificate expires.")),
});

export type FanfareSpec = TypeOf<typeof fanfareSpec>;
export type FanfareStatus = WithConditions<TypeOf<typeof fanfareStatus>>;
export type Fanfare = Resource<'Fanfare', FanfareSpec, FanfareStatus>;
