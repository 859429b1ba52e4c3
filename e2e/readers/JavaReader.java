import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.iceberg.BaseTable;
import org.apache.iceberg.FileScanTask;
import org.apache.iceberg.Files;
import org.apache.iceberg.PartitionField;
import org.apache.iceberg.StaticTableOperations;
import org.apache.iceberg.Table;
import org.apache.iceberg.TableScan;
import org.apache.iceberg.expressions.Expressions;
import org.apache.iceberg.io.FileIO;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.io.OutputFile;

/**
 * Iceberg's own code on a table in a folder, found by its metadata file. Prints a line of JSON for each data file: its
 * rows, sequence number and first row id, its partition values as text (binary as hex), and for each field that is a
 * column as it is, how many files a scan for this file's value plans.
 */
public class JavaReader {
  public static void main(String[] args) throws Exception {
    Table table = new BaseTable(new StaticTableOperations(args[0], new LocalFiles()), "table");
    try (var tasks = table.newScan().planFiles()) {
      for (FileScanTask task : tasks) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("rows", task.file().recordCount());
        line.put("sequence", task.file().dataSequenceNumber());
        line.put("first_row_id", task.file().firstRowId());
        Map<String, String> partition = new LinkedHashMap<>();
        Map<String, Integer> planned = new LinkedHashMap<>();
        int at = 0;
        for (PartitionField field : task.spec().fields()) {
          Object value = task.partition().get(at++, Object.class);
          partition.put(field.name(), text(value));
          if (field.transform().isIdentity() && value != null) {
            String column = table.schema().findColumnName(field.sourceId());
            TableScan scan = table.newScan().filter(Expressions.equal(column, literal(value)));
            planned.put(field.name(), count(scan));
          }
        }
        line.put("partition", partition);
        line.put("planned", planned);
        System.out.println(new ObjectMapper().writeValueAsString(line));
      }
    }
  }

  private static int count(TableScan scan) throws Exception {
    int count = 0;
    try (var tasks = scan.planFiles()) {
      for (FileScanTask ignored : tasks) {
        count++;
      }
    }
    return count;
  }

  private static Object literal(Object value) {
    return value instanceof CharSequence ? value.toString() : value;
  }

  private static String text(Object value) {
    if (value instanceof ByteBuffer bytes) {
      byte[] copy = new byte[bytes.remaining()];
      bytes.duplicate().get(copy);
      return HexFormat.of().formatHex(copy);
    }
    return value == null ? null : value.toString();
  }

  private static class LocalFiles implements FileIO {
    @Override
    public InputFile newInputFile(String path) {
      return Files.localInput(path);
    }

    @Override
    public OutputFile newOutputFile(String path) {
      throw new UnsupportedOperationException("reads only");
    }

    @Override
    public void deleteFile(String path) {
      throw new UnsupportedOperationException("reads only");
    }
  }
}
