import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.apache.kafka.tools.AclCommand;

/** Runs kafka-acls.sh for each line of arguments on standard input: one process for all of them. */
public class Acls {
    public static void main(String[] none) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            AclCommand.main(line.trim().split("\\s+"));
        }
    }
}
