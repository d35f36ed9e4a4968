// The kernel language on the CPU, checked: see docs/device.md.
//
// A lane is a fibre. Lanes run in an order that a seed permutes; at a barrier they wait for one
// another, and it is an error when they do not all come to the same one. Every access to memory
// is checked: its bounds, and that no other lane touches the same element without a barrier
// between, or another group at all.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

using std::exp;
using std::exp2;
using std::fabs;
using std::fma;
using std::fmax;
using std::fmin;
using std::floor;
using std::isfinite;
using std::log;
using std::log2;
using std::sqrt;
using std::tanh;
typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned char uchar;
// The system's header may have another type of this name.
typedef unsigned long long long_of_64_bits;
#define ulong long_of_64_bits

namespace emulator {

constexpr uint WARP_LANES = 32;
constexpr size_t STACK = 256 * 1024;
constexpr uint NOBODY = ~0u;
constexpr uint SEVERAL = ~0u - 1;

enum class State { Ready, AtBarrier, AtWarp, Done };

struct Lane {
  ucontext_t context;
  State state;
  int line;
  bool global;
  uint turn; // which of two slots the next exchange of its warp uses
  std::vector<std::function<void()>> later; // copies that it has not waited for
};

// Who last wrote and read an element, and before which barrier.
struct Shadow {
  uint writer = NOBODY, written = 0, reader = NOBODY, read = 0, reading_group = NOBODY;
};

struct Region {
  const char *name;
  char *data;
  size_t count;
  bool shared, written;
  std::vector<Shadow> shadows;
};

struct Machine {
  uint group, groups, lanes, lane, large;
  uint epoch, global_epoch;
  std::vector<Lane> all;
  std::vector<char> stacks;
  std::vector<Region *> shared;
  ucontext_t scheduler;
  std::string error;
  uint64_t random;
  char slots[2][1024][32];
};

inline Machine machine;

[[noreturn]] inline void fail(const std::string &what) {
  if (machine.error.empty())
    machine.error = "group " + std::to_string(machine.group) + ", lane " + std::to_string(machine.lane) + ": " + what;
  machine.all[machine.lane].state = State::Done;
  setcontext(&machine.scheduler);
  abort();
}

inline void check(Region &region, long at, bool write) {
  const std::string place = std::string(region.name) + "[" + std::to_string(at) + "]";
  auto who = [](uint id) {
    return id == SEVERAL ? std::string("other lanes")
                         : "lane " + std::to_string(id % machine.lanes) + " of group " + std::to_string(id / machine.lanes);
  };
  if (at < 0 || size_t(at) >= region.count)
    fail(place + " is outside its " + std::to_string(region.count) + " elements");
  if (!region.written) return;
  Shadow &s = region.shadows[at];
  const uint me = machine.group * machine.lanes + machine.lane;
  const uint epoch = region.shared ? machine.epoch : machine.global_epoch;
  if (s.writer != NOBODY && s.writer != me) {
    if (s.writer / machine.lanes != machine.group)
      fail(place + " was written by " + who(s.writer) + ", another group");
    if (s.written == epoch)
      fail(place + (write ? " is written" : " is read") + ", and " + who(s.writer) + " wrote it with no barrier between");
  }
  if (region.shared && !write && s.writer == NOBODY) fail(place + " is read before it is written, or with no barrier between");
  if (write) {
    if (s.reading_group != NOBODY && s.reading_group != machine.group) fail(place + " is written, and another group read it");
    if (s.reader != NOBODY && s.reader != me && s.read == epoch)
      fail(place + " is written, and " + who(s.reader) + " read it with no barrier between");
    s.writer = me;
    s.written = epoch;
  } else {
    if (s.reader == NOBODY || s.read != epoch) s.reader = me;
    else if (s.reader != me) s.reader = SEVERAL;
    s.read = epoch;
    if (s.reading_group == NOBODY) s.reading_group = machine.group;
    else if (s.reading_group != machine.group) s.reading_group = SEVERAL;
  }
}

inline bool likely_bad(Region &region, long at) { return region.written || at < 0 || size_t(at) >= region.count; }

template <class T> inline T load(Region *region, long at) {
  if (likely_bad(*region, at)) check(*region, at, false);
  T value;
  memcpy(&value, region->data + at * long(sizeof(T)), sizeof(T));
  return value;
}

template <class T> inline void store(Region *region, long at, T value) {
  check(*region, at, true);
  memcpy(region->data + at * long(sizeof(T)), &value, sizeof(T));
}

// An element that knows who touches it.
template <class T> struct Element {
  Region *region;
  long at;
  operator T() const { return load<T>(region, at); }
  T operator=(T value) const { store<T>(region, at, value); return value; }
  T operator=(const Element &other) const { return *this = T(other); }
  T operator+=(T value) const { return *this = T(*this) + value; }
  T operator-=(T value) const { return *this = T(*this) - value; }
  T operator*=(T value) const { return *this = T(*this) * value; }
  Element(Region *r, long i) : region(r), at(i) {}
  Element(const Element &) = default;
};

struct InGlobal {};
struct InShared {};

// A pointer that knows its bounds; global and shared memory do not mix, as on Metal.
template <class T, class Space> struct Pointer {
  Region *region;
  long at;
  Element<T> operator[](long i) const { return Element<T>(region, at + i); }
  Pointer operator+(long i) const { return Pointer{region, at + i}; }
  operator Pointer<const T, Space>() const { return {region, at}; }
};
template <class T, class Space> struct Pointer<const T, Space> {
  Region *region;
  long at;
  T operator[](long i) const { return load<T>(region, at + i); }
  Pointer operator+(long i) const { return Pointer{region, at + i}; }
};

// Memory that a kernel updates in place.
template <class T> struct Updated : Pointer<T, InGlobal> {};

// Shared memory of the group that runs.
template <class T, size_t count> struct SharedArray {
  Region region;
  std::vector<T> data;
  SharedArray(const char *name) : data(count) {
    region = Region{name, reinterpret_cast<char *>(data.data()), count, true, true, std::vector<Shadow>(count)};
    machine.shared.push_back(&region);
  }
  operator Pointer<T, InShared>() { return {&region, 0}; }
};

inline void later(std::function<void()> copy) { machine.all[machine.lane].later.push_back(std::move(copy)); }

inline void catch_up() {
  auto &copies = machine.all[machine.lane].later;
  for (auto &copy : copies) copy();
  copies.clear();
}

inline void wait(State state, int line, bool global) {
  Lane &lane = machine.all[machine.lane];
  lane.state = state;
  lane.line = line;
  lane.global = global;
  swapcontext(&lane.context, &machine.scheduler);
}

// What the lanes of a warp have, once all came.
template <class T> struct Exchanged {
  uint first, turn;
  T operator[](uint lane) const {
    if (lane >= WARP_LANES) fail("a shuffle asks for lane " + std::to_string(lane) + " of 32");
    T got;
    memcpy(&got, machine.slots[turn][first + lane], sizeof(T));
    return got;
  }
};

template <class T> inline Exchanged<T> exchange_all(T value, int line) {
  static_assert(sizeof(T) <= sizeof(machine.slots[0][0]), "larger than a slot");
  const uint me = machine.lane, turn = machine.all[me].turn;
  machine.all[me].turn = 1 - turn;
  memcpy(machine.slots[turn][me], &value, sizeof(T));
  wait(State::AtWarp, line, false);
  return {me / WARP_LANES * WARP_LANES, turn};
}

template <class T> inline T exchange(T value, uint from, int line) { return exchange_all(value, line)[from]; }

inline bool any(bool condition, int line) {
  const auto all = exchange_all<int>(condition, line);
  bool result = false;
  for (uint i = 0; i < WARP_LANES; i++) result |= all[i] != 0;
  return result;
}

inline uint64_t next() {
  uint64_t z = machine.random += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

inline std::vector<uint> order(uint n) {
  std::vector<uint> all(n);
  for (uint i = 0; i < n; i++) all[i] = i;
  for (uint i = n; i > 1; i--) std::swap(all[i - 1], all[next() % i]);
  return all;
}

// Lets the lanes of [first, last) go on when all of them wait at one place.
inline bool release(uint first, uint last, State state) {
  for (uint i = first; i < last; i++)
    if (machine.all[i].state != state || machine.all[i].line != machine.all[first].line) return false;
  for (uint i = first; i < last; i++) machine.all[i].state = State::Ready;
  return true;
}

inline std::string stuck() {
  std::string text = "the lanes of group " + std::to_string(machine.group) + " do not come to one barrier:";
  std::string before;
  for (uint i = 0; i < machine.lanes; i++) {
    const Lane &lane = machine.all[i];
    std::string now = lane.state == State::Done ? " is done" : " waits at line " + std::to_string(lane.line);
    if (now != before) text += " lane " + std::to_string(i) + now + ";";
    before = now;
  }
  return text;
}

// What the fibres of a group run.
inline void (*body)(void *);
inline void *body_arguments;

inline void enter() {
  body(body_arguments);
  if (!machine.all[machine.lane].later.empty()) fail("a copy was never waited for");
  machine.all[machine.lane].state = State::Done;
  setcontext(&machine.scheduler);
}

inline void run_group() {
  for (Region *region : machine.shared) region->shadows.assign(region->count, Shadow());
  for (uint i = 0; i < machine.lanes; i++) {
    Lane &lane = machine.all[i];
    getcontext(&lane.context);
    lane.context.uc_stack.ss_sp = machine.stacks.data() + i * STACK;
    lane.context.uc_stack.ss_size = STACK;
    lane.context.uc_link = nullptr;
    lane.state = State::Ready;
    lane.turn = 0;
    lane.later.clear();
    makecontext(&lane.context, enter, 0);
  }
  for (;;) {
    bool ran = false;
    for (uint i : order(machine.lanes)) {
      if (machine.all[i].state != State::Ready) continue;
      machine.lane = i;
      ran = true;
      swapcontext(&machine.scheduler, &machine.all[i].context);
      if (!machine.error.empty()) return;
    }
    if (ran) continue;
    bool done = true;
    for (const Lane &lane : machine.all) done &= lane.state == State::Done;
    if (done) return;
    bool released = false;
    for (uint i = 0; i < machine.lanes; i += WARP_LANES)
      released |= release(i, i + WARP_LANES, State::AtWarp);
    if (released) continue;
    if (!release(0, machine.lanes, State::AtBarrier)) {
      machine.error = stuck();
      return;
    }
    machine.epoch++;
    bool global = true;
    for (const Lane &lane : machine.all) global &= lane.global;
    if (global) machine.global_epoch++;
  }
}

// An argument as it came in.
struct Argument {
  uint8_t kind; // 0 input, 1 output, 2 value, 3 updated in place
  uint8_t type;
  std::vector<char> bytes;
  Region region;
};

template <class T> struct Code;
template <> struct Code<float> { static constexpr uint8_t value = 0; };
template <> struct Code<double> { static constexpr uint8_t value = 1; };
template <> struct Code<uint> { static constexpr uint8_t value = 2; };
template <> struct Code<ulong> { static constexpr uint8_t value = 3; };
template <> struct Code<int> { static constexpr uint8_t value = 4; };
template <> struct Code<uchar> { static constexpr uint8_t value = 5; };
template <> struct Code<ushort> { static constexpr uint8_t value = 6; };

inline void expect(const Argument &argument, uint8_t kind, uint8_t type, size_t size) {
  if (argument.kind != kind || argument.type != type || argument.bytes.size() % size != 0)
    throw std::string("argument has kind ") + std::to_string(argument.kind) + " and type " + std::to_string(argument.type) +
        ", its parameter " + std::to_string(kind) + " and " + std::to_string(type);
}

template <class T> struct Take {
  static T of(Argument &a) {
    expect(a, 2, Code<std::remove_const_t<T>>::value, sizeof(T));
    T value;
    memcpy(const_cast<std::remove_const_t<T> *>(&value), a.bytes.data(), sizeof(T));
    return value;
  }
};
template <class T> struct Take<Pointer<T, InGlobal>> {
  static Pointer<T, InGlobal> of(Argument &a) {
    constexpr bool constant = std::is_const_v<T>;
    expect(a, constant ? 0 : 1, Code<std::remove_const_t<T>>::value, sizeof(T));
    const size_t count = a.bytes.size() / sizeof(T);
    a.region = Region{"argument", a.bytes.data(), count, false, !constant, std::vector<Shadow>(constant ? 0 : count)};
    return {&a.region, 0};
  }
};

template <class T> struct Take<Updated<T>> {
  static Updated<T> of(Argument &a) {
    expect(a, 3, Code<T>::value, sizeof(T));
    const size_t count = a.bytes.size() / sizeof(T);
    a.region = Region{"argument", a.bytes.data(), count, false, true, std::vector<Shadow>(count)};
    return {{&a.region, 0}};
  }
};

template <class... A> struct Call {
  void (*kernel)(A...);
  std::tuple<A...> arguments;
  static void lane(void *self) {
    auto *call = static_cast<Call *>(self);
    std::apply(call->kernel, call->arguments);
  }
};

template <size_t... I, class... A>
inline void launch(void (*kernel)(A...), std::vector<Argument> &arguments, std::vector<std::string> &names, std::index_sequence<I...>) {
  if (arguments.size() != sizeof...(A))
    throw "it takes " + std::to_string(sizeof...(A)) + " arguments, not " + std::to_string(arguments.size());
  Call<A...> call{kernel, {Take<A>::of(arguments[I])...}};
  for (size_t i = 0; i < arguments.size(); i++) arguments[i].region.name = names[i].c_str();
  body = &Call<A...>::lane;
  body_arguments = &call;
  machine.global_epoch = 1;
  for (uint group : order(machine.groups)) {
    machine.group = group;
    machine.epoch = 1;
    machine.global_epoch++;
    run_group();
    if (!machine.error.empty()) return;
  }
}

struct Kernel {
  const char *name;
  const char *parameters;
  void (*launch)(std::vector<Argument> &, std::vector<std::string> &);
};
inline std::vector<Kernel> kernels;

template <auto F> struct Launch;
template <class... A, void (*F)(A...)> struct Launch<F> {
  static void run(std::vector<Argument> &a, std::vector<std::string> &n) { launch(F, a, n, std::index_sequence_for<A...>()); }
};
template <auto F> inline bool enroll(const char *name, const char *parameters) {
  kernels.push_back({name, parameters, &Launch<F>::run});
  return true;
}

// The names of the parameters, out of their text: KIND(index, type, name), ...
inline std::vector<std::string> parameter_names(const char *text) {
  std::vector<std::string> names;
  std::string t(text);
  for (size_t end = t.find(')'); end != std::string::npos; end = t.find(')', end + 1)) {
    size_t start = t.rfind(' ', end);
    names.push_back(t.substr(start + 1, end - start - 1));
  }
  return names;
}

inline bool take(void *to, size_t n) { return fread(to, 1, n, stdin) == n; }
template <class T> inline T take() { T x{}; if (!take(&x, sizeof(T))) exit(0); return x; }

// Serves launches from standard input until it ends.
inline int serve() {
  for (;;) {
    std::string name(take<uint32_t>(), ' ');
    if (!take(&name[0], name.size())) return 0;
    machine.random = take<uint64_t>();
    machine.groups = take<uint32_t>();
    machine.lanes = take<uint32_t>();
    machine.large = take<uint32_t>();
    std::vector<Argument> arguments(take<uint32_t>());
    for (Argument &a : arguments) {
      a.kind = take<uint8_t>();
      a.type = take<uint8_t>();
      const uint64_t size = take<uint64_t>();
      // Room for one more, so that nothing has an address too.
      a.bytes.reserve(size + 1);
      a.bytes.resize(size);
      if (!take(a.bytes.data(), a.bytes.size())) return 0;
    }
    machine.error.clear();
    machine.all.resize(machine.lanes);
    machine.stacks.resize(machine.lanes * STACK);
    bool found = false;
    for (const Kernel &kernel : kernels) {
      if (name != kernel.name) continue;
      found = true;
      std::vector<std::string> names = parameter_names(kernel.parameters);
      names.resize(arguments.size(), "argument");
      try { kernel.launch(arguments, names); } catch (const std::string &what) { machine.error = what; }
    }
    if (!found) machine.error = "there is no such function";
    const uint32_t length = machine.error.size();
    fwrite(&length, 4, 1, stdout);
    fwrite(machine.error.data(), 1, length, stdout);
    if (length == 0)
      for (Argument &a : arguments)
        if (a.kind == 1 || a.kind == 3) fwrite(a.bytes.data(), 1, a.bytes.size(), stdout);
    fflush(stdout);
  }
}

} // namespace emulator

#define KERNEL(name, ...)                                                      \
  static void name(__VA_ARGS__);                                               \
  static bool enrolled_##name = emulator::enroll<&name>(#name, #__VA_ARGS__);  \
  static void name(__VA_ARGS__)
#define INPUT(i, type, name) emulator::Pointer<const type, emulator::InGlobal> name
#define OUTPUT(i, type, name) emulator::Pointer<type, emulator::InGlobal> name
#define INOUT(i, type, name) emulator::Updated<type> name
#define VALUE(i, type, name) type name
#define DEVICE static inline

#define GLOBAL(type) emulator::Pointer<type, emulator::InGlobal>
#define SHARED_POINTER(type) emulator::Pointer<type, emulator::InShared>
#define LOCAL(type) type *
#define SHARED_UP_TO(limit, type, name, count)                                 \
  static_assert((count) * sizeof(type) <= (limit) * 1024, "a group has " #limit " KiB of shared memory"); \
  static emulator::SharedArray<type, count> shared_##name(#name);              \
  emulator::Pointer<type, emulator::InShared> name = shared_##name
#define SHARED(type, name, count) SHARED_UP_TO(32, type, name, count)
#define SHARED_LARGE(type, name, count)                                        \
  SHARED_UP_TO(163, type, name, count);                                        \
  if ((count) * sizeof(type) != emulator::machine.large)                       \
    emulator::fail(#name " takes " + std::to_string((count) * sizeof(type)) + " bytes, and the launch says " + std::to_string(emulator::machine.large))

#define GROUP (emulator::machine.group)
#define GROUPS (emulator::machine.groups)
#define LANE (emulator::machine.lane)
#define BARRIER() emulator::wait(emulator::State::AtBarrier, __LINE__, false)
#define BARRIER_GLOBAL() emulator::wait(emulator::State::AtBarrier, __LINE__, true)
#define UNROLL
#define SERIAL

#define WARP 32u
#define SHUFFLE_XOR(value, mask) emulator::exchange<std::decay_t<decltype(value)>>(value, (emulator::machine.lane % 32u) ^ (mask), __LINE__)
#define SHUFFLE(value, lane) emulator::exchange<std::decay_t<decltype(value)>>(value, lane, __LINE__)
#define WARP_ANY(condition) emulator::any(condition, __LINE__)
