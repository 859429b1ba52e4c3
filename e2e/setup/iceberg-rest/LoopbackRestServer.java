package org.apache.iceberg.rest;

import jakarta.servlet.ServletConfig;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpServletResponseWrapper;
import java.io.FileReader;
import java.io.IOException;
import java.io.PrintWriter;
import java.io.Reader;
import java.io.StringWriter;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.function.Consumer;
import org.apache.iceberg.CatalogUtil;
import org.apache.iceberg.catalog.Catalog;
import org.apache.iceberg.rest.responses.LoadTableResponse;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletContextRequest;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/**
 * An Iceberg REST catalog on 127.0.0.1: Iceberg's own catalog adapter, plus the failures a client has to survive.
 *
 * <p>Iceberg's RESTCatalogServer listens on every interface and wants Hadoop; this main does neither. It lives in
 * Iceberg's package because the adapter's context is package-private.
 *
 * <p>The one argument is a properties file:
 *
 * <ul>
 *   <li>{@code port}: where to listen.
 *   <li>{@code auth.token}: when set, every request must bear it, or a token of {@code /v1/oauth/tokens}.
 *   <li>{@code catalog.*}: the catalog behind the adapter. {@code catalog.include-credentials=true} vends its S3 keys.
 *   <li>{@code table.*}: configuration returned with every loaded table.
 * </ul>
 *
 * <p>{@code POST /__fault?mode=M&count=N[&path=P]} spoils the next N POSTs whose path contains P (default {@code
 * /tables/}) and answers how many the last order for P spoilt. Modes: {@code 500-before}, {@code 503-before},
 * {@code 429-before}, {@code 409-before}: refused, nothing happened. {@code 500-after}, {@code 502-after}, {@code
 * 504-after}: it happened, the answer is an error. {@code drop-after}: it happened, the connection is cut. {@code slow}:
 * two seconds late.
 *
 * <p>{@code POST /__table-config?name=value&…} changes the configuration returned with tables from now on, as {@code
 * table.*} does at the start.
 */
public final class LoopbackRestServer {
  public static void main(String[] args) throws Exception {
    Properties settings = new Properties();
    try (Reader in = new FileReader(args[0])) {
      settings.load(in);
    }
    Map<String, String> catalogProperties = below(settings, "catalog.");
    Catalog catalog = CatalogUtil.buildIcebergCatalog("lab", catalogProperties, null);
    RESTCatalogServer.CatalogContext context = new RESTCatalogServer.CatalogContext(catalog, catalogProperties);
    Adapter adapter = new Adapter(context, below(settings, "table."));
    RESTCatalogServlet servlet = new RESTCatalogServlet(adapter);

    ServletContextHandler handler = new ServletContextHandler();
    handler.addServlet(new ServletHolder(new Gate(servlet, adapter, settings.getProperty("auth.token"))), "/*");
    Server server = new Server();
    ServerConnector connector = new ServerConnector(server);
    connector.setHost("127.0.0.1");
    connector.setPort(Integer.parseInt(settings.getProperty("port")));
    server.addConnector(connector);
    server.setHandler(handler);
    server.start();
    server.join();
  }

  private static Map<String, String> below(Properties settings, String prefix) {
    Map<String, String> found = new HashMap<>();
    for (String name : settings.stringPropertyNames()) {
      if (name.startsWith(prefix)) {
        found.put(name.substring(prefix.length()), settings.getProperty(name));
      }
    }
    return found;
  }

  /** Iceberg's adapter, which also hands out configuration with every table. */
  private static final class Adapter extends RESTServerCatalogAdapter {
    private final Map<String, String> tableConfig;

    Adapter(RESTCatalogServer.CatalogContext context, Map<String, String> tableConfig) {
      super(context);
      this.tableConfig = tableConfig;
    }

    synchronized void configure(Map<String, String[]> changes) {
      changes.forEach((name, values) -> tableConfig.put(name, values[0]));
    }

    private synchronized void hand(Map<String, String> config) {
      config.putAll(tableConfig);
    }

    @Override
    public <T extends RESTResponse> T handleRequest(
        Route route,
        Map<String, String> variables,
        HTTPRequest request,
        Class<T> type,
        Consumer<Map<String, String>> headers) {
      T response = super.handleRequest(route, variables, request, type, headers);
      if (response instanceof LoadTableResponse loaded) {
        hand(loaded.config());
      }
      return response;
    }
  }

  /** The faults armed now, by the path they are meant for: tests of different tables do not disturb each other. */
  private static final class Faults {
    private static final class Order {
      String mode;
      int left;
      int spoilt;
    }

    private final Map<String, Order> orders = new HashMap<>();

    synchronized int arm(String mode, int count, String path) {
      Order order = new Order();
      order.mode = mode;
      order.left = count;
      Order before = orders.put(path, order);
      return before == null ? 0 : before.spoilt;
    }

    /** The mode to apply to this request, or null. */
    synchronized String take(HttpServletRequest request) {
      String uri = request.getRequestURI();
      if (!request.getMethod().equals("POST") || uri.endsWith("/metrics")) {
        return null;
      }
      for (Map.Entry<String, Order> entry : orders.entrySet()) {
        Order order = entry.getValue();
        if (order.left > 0 && uri.contains(entry.getKey())) {
          order.left--;
          order.spoilt++;
          return order.mode;
        }
      }
      return null;
    }
  }

  /** Every request passes here: arms faults, checks the bearer token, applies faults. */
  private static final class Gate extends HttpServlet {
    private final transient RESTCatalogServlet catalog;
    private final transient Adapter adapter;
    private final transient Faults faults = new Faults();
    private final String token;

    Gate(RESTCatalogServlet catalog, Adapter adapter, String token) {
      this.catalog = catalog;
      this.adapter = adapter;
      this.token = token;
    }

    @Override
    public void init(ServletConfig config) throws ServletException {
      catalog.init(config);
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response)
        throws ServletException, IOException {
      if (request.getRequestURI().equals("/__fault")) {
        String path = request.getParameter("path");
        int count = Integer.parseInt(request.getParameter("count"));
        int spoilt = faults.arm(request.getParameter("mode"), count, path == null ? "/tables/" : path);
        response.getWriter().write(Integer.toString(spoilt));
      } else if (request.getRequestURI().equals("/__table-config")) {
        adapter.configure(request.getParameterMap());
      } else if (!allowed(request)) {
        fail(response, 401, "NotAuthorizedException", "no valid bearer token");
      } else {
        serve(faults.take(request), request, response);
      }
    }

    private boolean allowed(HttpServletRequest request) {
      String uri = request.getRequestURI();
      if (token == null || uri.endsWith("/oauth/tokens")) {
        return true;
      }
      String header = request.getHeader("Authorization");
      return header != null
          && (header.equals("Bearer " + token)
              || header.startsWith("Bearer client-credentials-token:")
              || header.startsWith("Bearer token-exchange-token:"));
    }

    private void serve(String fault, HttpServletRequest request, HttpServletResponse response)
        throws ServletException, IOException {
      if (fault == null) {
        pass(request, response);
      } else if (fault.equals("slow")) {
        try {
          Thread.sleep(2000);
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
        pass(request, response);
      } else if (fault.endsWith("-before")) {
        int status = Integer.parseInt(fault.substring(0, 3));
        fail(response, status, status == 409 ? "CommitFailedException" : "InjectedFault", "injected before the request");
      } else {
        Swallowed swallowed = new Swallowed(response);
        pass(request, swallowed);
        if (fault.equals("drop-after")) {
          ServletContextRequest.getServletContextRequest(request)
              .getConnectionMetaData()
              .getConnection()
              .getEndPoint()
              .close();
        } else {
          String message = "injected after the catalog answered " + swallowed.getStatus();
          fail(response, Integer.parseInt(fault.substring(0, 3)), "InjectedFault", message);
        }
      }
    }

    private void pass(HttpServletRequest request, HttpServletResponse response) throws ServletException, IOException {
      catalog.service((ServletRequest) request, (ServletResponse) response);
    }

    private static void fail(HttpServletResponse response, int status, String type, String message)
        throws IOException {
      response.setStatus(status);
      response.setContentType("application/json");
      if (status == 429 || status == 503) {
        response.setHeader("Retry-After", "1");
      }
      String body = "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"code\":%d}}";
      response.getWriter().write(String.format(body, message, type, status));
    }
  }

  /** Takes the catalog's answer and keeps it from the client. */
  private static final class Swallowed extends HttpServletResponseWrapper {
    private final PrintWriter writer = new PrintWriter(new StringWriter());
    private int status = 200;

    Swallowed(HttpServletResponse response) {
      super(response);
    }

    @Override
    public PrintWriter getWriter() {
      return writer;
    }

    @Override
    public void setStatus(int newStatus) {
      status = newStatus;
    }

    @Override
    public int getStatus() {
      return status;
    }

    @Override
    public void setHeader(String name, String value) {}

    @Override
    public void addHeader(String name, String value) {}
  }
}
