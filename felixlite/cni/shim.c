/*
 * The CNI plugin as the container runtime execs it, once a pod: it hands the request to the node's agent and prints
 * what the agent answers.  All decisions are the agent's; only what must work without an agent is here.
 *
 *   to the agent    the CNI_* variables, each ended by a NUL; one NUL; the network configuration as it came; end of file.
 *                   The open network namespace travels along (SCM_RIGHTS): the agent may live in other mounts than we.
 *   from the agent  '.' at once: somebody is there; later '0' or '1' (our exit code) and what we have to print.
 *
 * Without an agent: VERSION is answered here.  ADD, CHECK, GC say "try again later" (11), STATUS "not available" (50),
 * within 2 s.  DEL leaves the request as a note beside the socket, which the agent works off when it is back, deletes
 * the interface in the pod, and succeeds.
 *
 * shim.py is the same in Python, for machines without a compiler; tests/kernel/cni runs both through the same tests.
 * Build: musl-gcc -O2 -static -o felixlite shim.c (or cc; compiling.py says what that costs)
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/felixlite/cni.sock"
#define NEWEST "1.1.0"
#define NOTES "cni-notes"
#define LONGEST_INPUT (4 << 20)
#define LONGEST_CONTAINER 200 /* with the interface it becomes the name of a file, which ends at 255 */
#define GREETING_MS 1500 /* an agent that is there answers at once: its queue is not what we wait for here */
#define ANSWER_MS 60000

extern char **environ;

static const char *const VERSIONS[] = {"0.3.1", "0.4.0", "1.0.0", NEWEST, NULL};
static const char *const COMMANDS[] = {"ADD", "DEL", "CHECK", "GC", "STATUS", NULL};

struct text {
    char *data;
    size_t size, room;
};

static void append(struct text *text, const void *data, size_t size)
{
    if (!size)
        return;
    if (text->size + size > text->room) {
        text->room = 2 * (text->size + size) + 4096;
        text->data = realloc(text->data, text->room);
        if (!text->data)
            _exit(1);
    }
    memcpy(text->data + text->size, data, size);
    text->size += size;
}

static void append_text(struct text *text, const char *plain)
{
    append(text, plain, strlen(plain));
}

static void append_json(struct text *text, const char *plain)
{
    char escape[8];
    for (const unsigned char *c = (const unsigned char *)plain; *c; c++) {
        if (*c < 0x20 || *c >= 0x7f || *c == '"' || *c == '\\') /* byte by byte: the result is valid JSON whatever the bytes were */
            append(text, escape, (size_t)sprintf(escape, "\\u%04x", *c));
        else
            append(text, c, 1);
    }
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static int among(const char *word, const char *const *words)
{
    while (*words && strcmp(word, *words) != 0)
        words++;
    return *words != NULL;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t count = write(fd, data, size);
        if (count <= 0)
            return -1;
        data += count;
        size -= (size_t)count;
    }
    return 0;
}

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What the backslash at `*at` stands for; `*at` becomes the last character of it. Go writes & < > as \u0026 \u003c \u003e. */
static char unescaped(const char **at, const char *end)
{
    for (const char *known = "u0026&u003c<u003e>"; *known; known += 6)
        if (end - *at > 5 && memcmp(*at + 1, known, 5) == 0)
            return *at += 5, known[5];
    return *++*at;
}

/* The string member `name` of the outermost object; 0 if there is none. Malformed JSON is the agent's to complain about. */
static int member(const struct text *json, const char *name, char *value, size_t room)
{
    const char *at = json->data, *end = json->data + json->size;
    int depth = 0, wanted = 0;
    while (at < end) {
        char c = *at++;
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        if (c == ',')
            wanted = 0;
        if (c != '"')
            continue;
        size_t size = 0;
        for (; at < end && *at != '"'; at++) {
            char meant = *at == '\\' && at + 1 < end ? unescaped(&at, end) : *at;
            if (size + 1 < room)
                value[size++] = meant;
        }
        value[size] = 0;
        at += at < end;
        if (wanted && depth == 1)
            return 1;
        const char *next = at;
        while (next < end && isspace((unsigned char)*next))
            next++;
        wanted = depth == 1 && next < end && *next == ':' && strcmp(value, name) == 0;
    }
    return 0;
}

/* What every answer of ours begins with: the version that was asked for, or our newest if we do not know that one. */
static void append_version(struct text *out, const struct text *config)
{
    char version[16];
    if (!member(config, "cniVersion", version, sizeof version) || !among(version, VERSIONS))
        strcpy(version, NEWEST);
    append_text(out, "{\"cniVersion\":\"");
    append_text(out, version);
}

static int say_error(const struct text *config, int code, const char *message, const char *details)
{
    struct text out = {0};
    char number[40];
    append_version(&out, config);
    append(&out, number, (size_t)sprintf(number, "\",\"code\":%d,\"msg\":\"", code));
    append_json(&out, message);
    append_text(&out, "\",\"details\":\"");
    append_json(&out, details);
    append_text(&out, "\"}\n");
    write_all(1, out.data, out.size);
    return 1;
}

static int say_versions(const struct text *config)
{
    struct text out = {0};
    append_version(&out, config);
    append_text(&out, "\",\"supportedVersions\":[\"");
    for (const char *const *version = VERSIONS; *version; version++) {
        append_text(&out, version == VERSIONS ? "" : "\",\"");
        append_text(&out, *version);
    }
    append_text(&out, "\"]}\n");
    return write_all(1, out.data, out.size) != 0;
}

static void read_config(struct text *config)
{
    char chunk[16384];
    ssize_t count;
    while ((count = read(0, chunk, sizeof chunk)) != 0) {
        if (count < 0)
            _exit(say_error(config, 5, "reading the network configuration from stdin failed", strerror(errno)));
        append(config, chunk, (size_t)count);
        if (config->size > LONGEST_INPUT)
            _exit(say_error(config, 7, "the network configuration is longer than 4 MiB", ""));
    }
}

static void build_request(struct text *request, const struct text *config)
{
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "CNI_", 4) == 0)
            append(request, *entry, strlen(*entry) + 1);
    append(request, "", 1);
    append(request, config->data, config->size);
}

/* ---- with the agent ---- */

static int connected(const char *path, long deadline)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    while (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        if (errno != EAGAIN || now_ms() > deadline) { /* EAGAIN: its backlog is full (unix(7)) */
            close(fd);
            return -1;
        }
        poll(NULL, 0, 10);
    }
    return fd;
}

static ssize_t send_some(int fd, const char *data, size_t size, int namespace)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = (void *)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (namespace >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &namespace, sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static int ready(int fd, short what, long deadline)
{
    struct pollfd waiting = {.fd = fd, .events = what};
    long left;
    while ((left = deadline - now_ms()) > 0) {
        int count = poll(&waiting, 1, (int)left);
        if (count > 0)
            return 1;
        if (count < 0 && errno != EINTR)
            return 0;
    }
    errno = ETIMEDOUT;
    return 0;
}

static int send_request(int fd, const struct text *request, int namespace)
{
    long deadline = now_ms() + GREETING_MS;
    size_t sent = 0;
    while (sent < request->size) {
        ssize_t count = send_some(fd, request->data + sent, request->size - sent, sent ? -1 : namespace);
        if (count > 0)
            sent += (size_t)count;
        else if (errno != EAGAIN || !ready(fd, POLLOUT, deadline))
            return -1;
    }
    return shutdown(fd, SHUT_WR);
}

/* 0: `answer` holds the greeting, the exit code and the output. -1: errno says why there is no answer. */
static int ask(const char *path, const struct text *request, struct text *answer)
{
    char chunk[16384];
    long deadline = now_ms() + GREETING_MS;
    int namespace = *variable("CNI_NETNS") ? open(variable("CNI_NETNS"), O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    int fd = connected(path, deadline);
    if (fd < 0 || send_request(fd, request, namespace) != 0)
        return -1;
    while (ready(fd, POLLIN, deadline)) {
        ssize_t count = recv(fd, chunk, sizeof chunk, 0);
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (count < 0)
            return -1;
        if (count == 0) {
            errno = ECONNRESET; /* killed while it worked for us */
            return answer->size >= 2 ? 0 : -1;
        }
        if (!answer->size)
            deadline = now_ms() + ANSWER_MS;
        append(answer, chunk, (size_t)count);
    }
    return -1;
}

/* ---- without the agent ---- */

static int is_plain(const char *name)
{
    return isalnum((unsigned char)*name) && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == strlen(name);
}

/* Written beside and renamed: the agent finds all of the note or nothing. The same DEL again is the same note. */
static int leave_note(const char *socket_path, const struct text *request)
{
    char run[200], directory[220], draft[640], note[640];
    const char *slash = strrchr(socket_path, '/');
    snprintf(run, sizeof run, "%.*s", (int)(slash ? slash - socket_path : 1), slash ? socket_path : ".");
    snprintf(directory, sizeof directory, "%s/" NOTES, run);
    snprintf(note, sizeof note, "%s/%s.%s", directory, variable("CNI_CONTAINERID"), variable("CNI_IFNAME"));
    snprintf(draft, sizeof draft, "%s/.%d", directory, (int)getpid());
    mkdir(run, 0700);
    mkdir(directory, 0700);
    int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    if (write_all(fd, request->data, request->size) != 0 || close(fd) != 0 || rename(draft, note) != 0) {
        unlink(draft);
        return -1;
    }
    return 0;
}

static int is_our_own(int namespace)
{
    struct stat here, there;
    return stat("/proc/self/ns/net", &here) || fstat(namespace, &there) || (here.st_dev == there.st_dev && here.st_ino == there.st_ino);
}

/* Deletes the interface in the pod, and with it the host's end. What fails here is done by the agent from the note. */
static void delete_interface(void)
{
    struct { /* nlmsghdr, ifinfomsg and one rtattr of linux/rtnetlink.h, which musl's compiler does not find */
        uint32_t length;
        uint16_t type, flags;
        uint32_t sequence, port;
        uint8_t family, padding;
        uint16_t device;
        int32_t index;
        uint32_t link_flags, link_change;
        uint16_t name_length, name_type;
        char name[16];
    } message = {.length = sizeof message, .type = 17 /* RTM_DELLINK */, .flags = 1 /* NLM_F_REQUEST */,
                 .name_length = 4 + sizeof message.name, .name_type = 3 /* IFLA_IFNAME */};
    int namespace = open(variable("CNI_NETNS"), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (namespace < 0 || is_our_own(namespace) || setns(namespace, CLONE_NEWNET) != 0)
        return;
    snprintf(message.name, sizeof message.name, "%s", variable("CNI_IFNAME"));
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0 /* NETLINK_ROUTE */);
    if (fd >= 0 && send(fd, &message, sizeof message, 0) < 0)
        perror("felixlite: deleting the pod's interface");
}

static int without_agent(const char *command, const char *socket_path, const struct text *request, const struct text *config)
{
    char details[600];
    snprintf(details, sizeof details,
             "no answer at %s (%s); is `felixlite agent` running on this node? See `felixlite status` and its log",
             socket_path, strerror(errno));
    if (strcmp(command, "STATUS") == 0)
        return say_error(config, 50, "the felixlite agent is not available", details);
    if (strcmp(command, "DEL") != 0)
        return say_error(config, 11, "the felixlite agent is away, try again later", details);
    const char *container = variable("CNI_CONTAINERID"), *interface = variable("CNI_IFNAME");
    if (!is_plain(container) || strlen(container) > LONGEST_CONTAINER)
        return say_error(config, 4, "CNI_CONTAINERID is missing or not a container ID", container);
    if (!*interface || strlen(interface) > 15 || strchr(interface, '/'))
        return say_error(config, 4, "CNI_IFNAME is missing or not an interface name", interface);
    if (leave_note(socket_path, request) != 0)
        return say_error(config, 5, "the felixlite agent is away, and its run directory takes no note", strerror(errno));
    delete_interface();
    return 0;
}

int main(void)
{
    struct text config = {0}, request = {0}, answer = {0};
    char path[200];
    const char *command = variable("CNI_COMMAND");
    signal(SIGPIPE, SIG_IGN); /* nobody reads our answer any more: that is a failure, and no crash */
    if (strcmp(command, "VERSION") != 0 && !among(command, COMMANDS))
        return say_error(&config, 4, "CNI_COMMAND must be ADD, DEL, CHECK, GC, STATUS or VERSION", command);
    read_config(&config);
    if (strcmp(command, "VERSION") == 0)
        return say_versions(&config);
    if (!member(&config, "socket", path, sizeof path) || !*path)
        strcpy(path, DEFAULT_SOCKET);
    build_request(&request, &config);
    if (ask(path, &request, &answer) != 0)
        return without_agent(command, path, &request, &config);
    return write_all(1, answer.data + 2, answer.size - 2) != 0 || answer.data[1] != '0';
}
