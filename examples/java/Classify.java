// A model file of edgelabel in Java: loaded once, then a method call a text.
// The exports it calls are described in docs/runtimes.md.
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import org.graalvm.polyglot.Context;
import org.graalvm.polyglot.Source;
import org.graalvm.polyglot.Value;

/** Answers one thread at a time. */
public class Classify implements AutoCloseable {
    private static final int TEXT_CAPACITY = 1 << 20;

    private final Context context;
    private final Value memory;
    private final Value classify;
    private final Value renderLine;
    private final int text;
    private final int line;

    public Classify(File file) throws IOException {
        context = Context.newBuilder("wasm").option("wasm.Builtins", "wasi_snapshot_preview1").build();
        var exports = context.eval(Source.newBuilder("wasm", file).build()).newInstance().getMember("exports");
        int status = exports.invokeMember("loadEmbedded").asInt();
        if (status != 0) throw new IOException(file + ": status " + status);
        memory = exports.getMember("memory");
        classify = exports.getMember("classify");
        renderLine = exports.getMember("renderLine");
        text = exports.invokeMember("textPtr").asInt();
        line = exports.invokeMember("linePtr").asInt();
    }

    /** The answer to a text in UTF-8: one line of JSON with all scores. */
    public byte[] classify(byte[] utf8) {
        if (utf8.length > TEXT_CAPACITY) throw new IllegalArgumentException("the text is longer than 1 MiB");
        for (int i = 0; i < utf8.length; i++) memory.writeBufferByte(text + i, utf8[i]);
        int status = classify.execute(utf8.length).asInt();
        if (status != 0) throw new IllegalStateException("classify: status " + status);
        byte[] answer = new byte[renderLine.execute(1, 0).asInt()];
        memory.readBuffer(line, answer, 0, answer.length);
        return answer;
    }

    @Override
    public void close() {
        context.close();
    }

    public static void main(String[] args) throws IOException {
        try (var classifier = new Classify(new File(args[0]));
                var in = new BufferedInputStream(System.in);
                var out = new BufferedOutputStream(System.out)) {
            for (byte[] text = readLine(in); text != null; text = readLine(in)) out.write(classifier.classify(text));
        }
    }

    private static byte[] readLine(InputStream in) throws IOException {
        var text = new ByteArrayOutputStream();
        int next = in.read();
        if (next < 0) return null;
        for (; next >= 0 && next != '\n'; next = in.read()) text.write(next);
        return text.toByteArray();
    }
}
