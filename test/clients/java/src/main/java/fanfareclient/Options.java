package fanfareclient;

import java.util.HashMap;
import java.util.Map;

/** The command line after the command: {@code --name value} pairs. */
record Options(Map<String, String> values) {
  static Options parse(String[] args, int from) {
    Map<String, String> values = new HashMap<>();
    for (int i = from; i < args.length; i += 2) {
      if (!args[i].startsWith("--") || i + 1 == args.length) {
        throw new ClientException("expected --NAME VALUE, found '" + args[i] + "'");
      }
      values.put(args[i].substring(2), args[i + 1]);
    }
    return new Options(values);
  }

  String text(String name) {
    String value = values.get(name);
    if (value == null) {
      throw new ClientException("--" + name + " is missing");
    }
    return value;
  }

  int number(String name) {
    return Integer.parseInt(text(name));
  }

  int number(String name, int otherwise) {
    return values.containsKey(name) ? number(name) : otherwise;
  }
}
