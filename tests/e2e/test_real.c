/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that people run, unmodified. What is not installed is left out, and said. */
#include "tests/e2e/harness.h"

#include <ctype.h>

/* Writes a file on the virtual host's own file system. */
static void file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), SCRATCH "/%s", name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fputs(text, f) < 0, 0);
	assert_int_equal(fclose(f), 0);
}

static void curl_calls_a_service(void **state)
{
	struct instance *i;
	struct output *o;

	i = instance_ready(instance_start("web", "web-1", "--netns", "origin --port 8000"));
	o = sh("meshctl run --service client --netns -- curl -s -m 10 -i http://%s/ "
	       "http://%s/?chunked=9",
	       i->address, i->address);
	assert_int_equal(o->status, 0);
	assert_non_null(strcasestr(o->out, "x-instance-id: web-1"));
}

static void python_serves_and_calls(void **state)
{
	struct instance *i;
	struct output *o;

	file("index.html", "hello from python\n");
	/* http.server's own main() looks its host name up before it listens, which takes long
	 * without DNS */
	file("serve.py",
	     "import functools, http.server, socketserver\n"
	     "h = functools.partial(http.server.SimpleHTTPRequestHandler, directory='" SCRATCH
	     "')\n"
	     "socketserver.ThreadingTCPServer(('', 8000), h).serve_forever()\n");
	i = instance_ready(instance_start("py", "py-1", "--netns", "python3 " SCRATCH "/serve.py"));
	file("call.py",
	     "import http.client, sys\n"
	     "c = http.client.HTTPConnection(sys.argv[1], timeout=10)\n"
	     "for _ in range(3):\n"
	     "    c.request('GET', '/index.html')\n"
	     "    r = c.getresponse()\n"
	     "    print(r.status, r.getheader('x-instance-id'), r.read().decode(), end='')\n");
	o = sh("meshctl run --service client --netns -- python3 " SCRATCH "/call.py %s",
	       i->address);
	assert_string_equal(o->err, "");
	assert_string_equal(o->out, "200 py-1 hello from python\n200 py-1 hello from python\n"
				    "200 py-1 hello from python\n");
}

static unsigned long delayed_acks(void)
{
	const struct output *o =
		sh("awk '$1 == \"TcpExt:\" && !k { for (i = 2; i <= NF; i++) "
		   "if ($i == \"DelayedACKs\") k = i; next } $1 == \"TcpExt:\" { print $k }' "
		   "/proc/net/netstat");

	assert_true(isdigit((unsigned char)o->out[0]));
	return strtoul(o->out, NULL, 10);
}

/* Its kernel holds the body back until the head is acknowledged. */
static void an_answer_in_pieces_is_not_waited_for(void **state)
{
	struct instance *i;
	struct client *c;
	unsigned long before;

	file("pieces.py", "import http.server, socketserver\n"
			  "class H(http.server.BaseHTTPRequestHandler):\n"
			  "    protocol_version = 'HTTP/1.1'\n"
			  "    def do_GET(self):\n"
			  "        self.send_response(200)\n"
			  "        self.send_header('content-length', '5')\n"
			  "        self.end_headers()\n"
			  "        self.wfile.write(b'hello')\n"
			  "    def log_message(self, *args): pass\n"
			  "socketserver.ThreadingTCPServer(('', 8000), H).serve_forever()\n");
	i = instance_ready(
		instance_start("pieces", "pieces-1", "--netns", "python3 " SCRATCH "/pieces.py"));
	c = call(caller_start("client", "--netns"), i->address);
	assert_int_equal(get(c, "/"), 200);
	before = delayed_acks();
	for (int k = 0; k < 40; k++) {
		assert_int_equal(get(c, "/"), 200);
		assert_string_equal(c->body, "hello");
	}
	assert_in_range(delayed_acks() - before, 0, 20); /* of what else is said meanwhile */
}

static void node_serves_and_calls(void **state)
{
	struct instance *i;
	struct output *o;

	file("serve.js",
	     "require('http').createServer((q, r) => { let n = 0; q.on('data', d => n += "
	     "d.length);\n"
	     "q.on('end', () => { r.write('got '); r.end(String(n)); }); }).listen(8000);\n");
	file("call.js",
	     "const http = require('http'), agent = new http.Agent({ keepAlive: true });\n"
	     "const [host, port] = process.argv[2].split(':');\n"
	     "let left = 3;\n"
	     "(function next() { const q = http.request({ host, port, agent, method: 'POST' }, r "
	     "=> {\n"
	     "  let s = ''; r.on('data', d => s += d);\n"
	     "  r.on('end', () => { console.log(r.statusCode, r.headers['x-instance-id'], s);\n"
	     "  --left ? next() : agent.destroy(); }); });\n"
	     "  q.write('x'.repeat(100000)); q.end('y'); })();\n");
	i = instance_ready(
		instance_start("node", "node-1", "--netns", "node " SCRATCH "/serve.js"));
	o = sh("meshctl run --service client --netns -- node " SCRATCH "/call.js %s", i->address);
	assert_string_equal(
		o->out, "200 node-1 got 100001\n200 node-1 got 100001\n200 node-1 got 100001\n");
}

static void nginx_serves(void **state)
{
	struct instance *i;
	struct client *c;

	file("nginx.conf",
	     "daemon off; worker_processes 1; pid " SCRATCH "/nginx.pid; error_log stderr;\n"
	     "events {}\nhttp { access_log off; client_body_temp_path " SCRATCH
	     "/nb; proxy_temp_path " SCRATCH "/np; fastcgi_temp_path " SCRATCH
	     "/nf; uwsgi_temp_path " SCRATCH "/nu; scgi_temp_path " SCRATCH "/ns;\n"
	     "server { listen 8000; location / { return 200 'hello from nginx'; } } }\n");
	i = instance_ready(
		instance_start("nginx", "nginx-1", "--netns", "nginx -c " SCRATCH "/nginx.conf"));
	c = call(caller_start("client", "--netns"), i->address);
	for (int k = 0; k < 5; k++) {
		assert_int_equal(get(c, "/"), 200);
		assert_string_equal(c->body, "hello from nginx");
		assert_string_equal(header(c, "x-instance-id"), "nginx-1");
	}
}

static void redis_is_a_tunnel(void **state)
{
	struct instance *i;
	struct output *o;

	i = instance_ready(instance_start(
		"redis", "redis-1", "--netns",
		"redis-server --port 6379 --save '' --protected-mode no --dir " SCRATCH));
	o = sh("meshctl run --service client --netns -- sh -c 'redis-cli -h %s set k v; redis-cli "
	       "-h %s get k; "
	       "redis-cli -h %s --no-raw ping'",
	       i->ip, i->ip, i->ip);
	assert_string_equal(o->out, "OK\nv\nPONG\n");
	assert_true(metric("mesh_tcp_connections_total", "destination=\"redis\"", NULL) != 0);
}

static const struct {
	const char *program, *too; /* what it needs */
	struct CMUnitTest story;
} all[] = {
	{"curl", "curl", STORY(curl_calls_a_service)},
	{"python3", "python3", STORY(python_serves_and_calls)},
	{"python3", "python3", STORY(an_answer_in_pieces_is_not_waited_for)},
	{"node", "node", STORY(node_serves_and_calls)},
	{"nginx", "nginx", STORY(nginx_serves)},
	{"redis-server", "redis-cli", STORY(redis_is_a_tunnel)},
};
#define ALL (sizeof(all) / sizeof(all[0]))

int main(void)
{
	struct CMUnitTest stories[ALL];
	size_t n = 0;

	for (size_t i = 0; i < ALL; i++) {
		if (have_program(all[i].program) && have_program(all[i].too))
			stories[n++] = all[i].story;
		else
			printf("left out: %s (%s is not installed here)\n", all[i].story.name,
			       have_program(all[i].program) ? all[i].too : all[i].program);
	}
	return _cmocka_run_group_tests("stories", stories, n, harness_start, harness_stop);
}
