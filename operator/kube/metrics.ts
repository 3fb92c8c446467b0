// Plain counters and gauges in Prometheus' text format. No client library: counting is an addition to a map
// entry, and there is nothing else to it.

/**
 * Series of one counter, at most; further ones are counted as `other`. Labels are verbs, resources and codes:
 * more means that somebody used a name as a label.
 */
const MAX_SERIES = 500;

export interface Counter {
  /** Label values in the order of the label names. */
  add(labels: readonly string[], by?: number): void;
  /** The sum over all series whose labels are accepted. */
  total(accept?: (labels: readonly string[]) => boolean): number;
}

export interface Sample {
  readonly labels: readonly string[];
  readonly value: number;
}

interface Family {
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly labelNames: readonly string[];
  readonly samples: () => Iterable<Sample>;
}

/** One row of the table that says what the operator costs the API server. */
export interface ApiCalls {
  readonly verb: string;
  readonly resource: string;
  readonly calls: number;
}

export class Metrics {
  readonly #families = new Map<string, Family>();
  readonly #counters = new Map<string, Counter>();
  /** Tries, answered or not. A watch counts once, when it is opened. */
  readonly #requests = this.counter('fanfare_operator_api_requests_total', 'Requests to the API server.', [
    'verb',
    'resource',
    'code',
  ]);

  /** The counter of that name: the same one for everybody who asks. */
  counter(name: string, help: string, labelNames: readonly string[] = []): Counter {
    const known = this.#counters.get(name);
    if (known !== undefined) return known;
    const series = new Map<string, { readonly labels: readonly string[]; value: number }>();
    const counter: Counter = {
      add(labels, by = 1) {
        const id = labels.join('\n');
        const found = series.get(id);
        if (found !== undefined) found.value += by;
        else if (series.size < MAX_SERIES) series.set(id, { labels: [...labels], value: by });
        else if (!labels.every((label) => label === 'other'))
          this.add(
            labels.map(() => 'other'),
            by,
          );
        else series.set(id, { labels: [...labels], value: by });
      },
      total(accept = () => true) {
        let sum = 0;
        for (const { labels, value } of series.values()) if (accept(labels)) sum += value;
        return sum;
      },
    };
    this.#counters.set(name, counter);
    this.#families.set(name, { help, type: 'counter', labelNames, samples: () => series.values() });
    return counter;
  }

  /** A value that is read when somebody looks. The last gauge of a name counts. */
  gauge(name: string, help: string, labelNames: readonly string[], samples: () => Iterable<Sample>): void {
    this.#families.set(name, { help, type: 'gauge', labelNames, samples });
  }

  countRequest(verb: string, resource: string, code: string): void {
    this.#requests.add([verb, resource, code]);
  }

  /** Requests so far, most first: two readings an hour apart are the calls per steady hour. */
  apiCalls(): ApiCalls[] {
    const rows = new Map<string, { verb: string; resource: string; calls: number }>();
    for (const { labels, value } of this.#families.get('fanfare_operator_api_requests_total')!.samples()) {
      const [verb = '', resource = ''] = labels;
      const row = rows.get(`${verb} ${resource}`) ?? { verb, resource, calls: 0 };
      row.calls += value;
      rows.set(`${verb} ${resource}`, row);
    }
    return [...rows.values()].sort((a, b) => b.calls - a.calls || a.resource.localeCompare(b.resource));
  }

  /** Text format 0.0.4. */
  render(): string {
    const lines: string[] = [];
    for (const [name, { help, type, labelNames, samples }] of this.#families) {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
      for (const { labels, value } of samples()) {
        const pairs = labelNames.map((label, index) => `${label}="${quoted(labels[index] ?? '')}"`);
        lines.push(`${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`);
      }
    }
    return `${lines.join('\n')}\n`;
  }
}

function quoted(label: string): string {
  return label.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
