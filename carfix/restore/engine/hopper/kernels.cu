// The full network in 16 bit on Hopper GPUs (sm_90a); layout.py says how a map lies in memory.
//
// module.py compiles it when a restore begins, with -D BFLOAT16 for bf16 instead of fp16, CODE_BYTES (1 or 2), and the
// sizes that it launches by: STRIP, HEAD_ROWS, HEAD_COLUMNS, TAIL_ROWS, TAIL_COLUMNS, CONVOLVE_THREADS, SHARED.

#ifdef BFLOAT16
#define PTX_TYPE "bf16"
#else
#define PTX_TYPE "f16"
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int PIXEL = 128;                       // bytes: 64 channels, in eight chunks of 16 bytes
constexpr int ROW = (STRIP + 2) * PIXEL;         // bytes of a row of input: a strip and a column on either side
constexpr int STAGED = STRIP * PIXEL;            // bytes of a row of output
constexpr int SLOT = 17 * 1024;                  // room for either, in whole patterns of the swizzle
constexpr int SLOTS = 7;                         // rows of input that are held or on their way
constexpr int TAP = 64 * PIXEL;                  // weights of one of the nine taps
constexpr int TAPS = 9;
constexpr int CONSUMERS = 2;                     // warpgroups that multiply
constexpr int WARPGROUP = 128;                   // threads
constexpr int THREADS = CONSUMERS * WARPGROUP + 32;  // and one warp that fetches
static_assert(STRIP == 128 && ROW <= SLOT && STAGED + PIXEL <= SLOT && THREADS == CONVOLVE_THREADS, "as launched");

// Shared memory, in bytes: the weights, rows of input, rows of output on their way out, barriers.
constexpr int RING = TAPS * TAP;
constexpr int STAGE = RING + SLOTS * SLOT;
constexpr int BARRIERS = STAGE + CONSUMERS * SLOT;
static_assert(BARRIERS + 8 * (2 * SLOTS + CONSUMERS + 1) <= SHARED, "as launched");

static __device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

static __device__ __forceinline__ void barrier_init(u32 at, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}
static __device__ __forceinline__ void arrive(u32 at) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}
static __device__ __forceinline__ void expect(u32 at, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}
static __device__ __forceinline__ void wait(u32 at, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}" ::"r"(at), "r"(parity) : "memory");
}
static __device__ __forceinline__ void fetch(u32 to, const void* from, u32 bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier) : "memory");
}
static __device__ __forceinline__ void put(void* to, u32 from, u32 bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\ncp.async.bulk.commit_group;" ::"l"(to),
               "r"(from), "r"(bytes) : "memory");
}
static __device__ __forceinline__ void meet(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
static __device__ __forceinline__ void pass(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// What wgmma is told of an operand in rows of 128 bytes, swizzled in patterns of eight rows.
static __device__ __forceinline__ u64 descriptor(u32 at) {
  return (u64)((at & 0x3FFFF) >> 4) | (1ull << 16) | ((u64)(1024 >> 4) << 32) | (1ull << 62);
}

// sums[64 outputs x 128 pixels] += weights[64 x 16] * pixels[128 x 16]^T
static __device__ __forceinline__ void multiply(float (&d)[64], u64 a, u64 b, int add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." PTX_TYPE "." PTX_TYPE " "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"
      "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,"
      "%58,%59,%60,%61,%62,%63}, %64, %65, add, 1, 1, 0, 0;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
      : "l"(a), "l"(b), "r"(add));
}

// Stays where the compiler must see that the sums are touched by what is under way.
static __device__ __forceinline__ void settle(float (&d)[64]) {
#pragma unroll
  for (int i = 0; i < 64; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// Two channels or pixels in 16 bit each, the first in the lower half.
static __device__ __forceinline__ u32 pair(float a, float b) {
  u32 v;
  asm("cvt.rn." PTX_TYPE "x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a));
  return v;
}
static __device__ __forceinline__ float2 floats(u32 v) {
#ifdef BFLOAT16
  return {__uint_as_float(v << 16), __uint_as_float(v & 0xFFFF0000)};
#else
  float2 f;
  asm("{\n.reg .b16 a, b;\nmov.b32 {a, b}, %2;\ncvt.f32.f16 %0, a;\ncvt.f32.f16 %1, b;\n}" : "=f"(f.x), "=f"(f.y) : "r"(v));
  return f;
#endif
}

// A map is frames x (height + 2) x pitch pixels; see layout.py.
struct Place {
  int frame, strip, row;
};

static __device__ __forceinline__ Place place_of(int unit, int strips, int height) {
  const int run = unit / height;
  return {run / strips, run % strips, unit % height};
}

static __device__ __forceinline__ size_t offset(Place p, int row, int column, int height, int pitch) {
  return (((size_t)p.frame * (height + 2) + p.row + row) * pitch + p.strip * STRIP + column) * PIXEL;
}

// One 3x3 convolution, its bias, LeakyReLU and (if `residual` is one) the sum. `residual` may be `y`, `x` may not.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    convolve(const u8* x, const u8* weights, const float* bias, const u8* residual, u8* y, int frames, int height,
             int width, int pitch, float slope) {
  extern __shared__ __align__(1024) u8 memory[];
  const u32 base = shared_address(memory);
  const u32 full = base + BARRIERS, empty = full + 8 * SLOTS, loaded = empty + 8 * SLOTS, ready = loaded + 8 * CONSUMERS;
  const int group = __shfl_sync(0xFFFFFFFF, threadIdx.x / WARPGROUP, 0), thread = threadIdx.x % WARPGROUP;

  // Rows of all strips of all frames one after another, in equal shares: the rows of a strip that a block computes
  // ("run") share their input.
  const int strips = (width + STRIP - 1) / STRIP;
  const u64 total = (u64)frames * strips * height;
  const int begin = (int)(total * blockIdx.x / gridDim.x), end = (int)(total * (blockIdx.x + 1) / gridDim.x);
  const int first_run = begin / height;
  // Number of the first of the three rows of input that a unit needs, counted from the block's first.
  auto first = [&](int unit) { return unit - begin + 2 * (unit / height - first_run); };

  if (threadIdx.x == 0) {
    if (base % 1024) __trap();
    for (int slot = 0; slot < SLOTS; slot++) {
      barrier_init(full + 8 * slot, 1);
      barrier_init(empty + 8 * slot, CONSUMERS * WARPGROUP / 32);
    }
    for (int i = 0; i < CONSUMERS; i++) barrier_init(loaded + 8 * i, 1);
    barrier_init(ready, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __syncthreads();

  if (group == CONSUMERS) {  // one thread fetches
    if (thread == 0) {
      expect(ready, TAPS * TAP);
      fetch(base, weights, TAPS * TAP, ready);
      int slot = 0, round = 0;
      for (int unit = begin; unit < end; unit++) {
        const Place place = place_of(unit, strips, height);
        for (int k = unit == begin || place.row == 0 ? 0 : 2; k < 3; k++) {
          if (round > 0) wait(empty + 8 * slot, (round - 1) & 1);
          expect(full + 8 * slot, ROW);
          fetch(base + RING + slot * SLOT, x + offset(place, k, 0, height, pitch), ROW, full + 8 * slot);
          if (++slot == SLOTS) slot = 0, round++;
        }
      }
    }
    return;
  }

  const int warp = thread / 32, lane = thread % 32;
  const int own = 1 + group, turn = 1 + CONSUMERS + group, next = 1 + CONSUMERS + (group ^ 1);  // hardware barriers
  const u32 stage = base + STAGE + group * SLOT;
  const u32 mine = loaded + 8 * group;
  float low = bias[16 * warp + lane / 4], high = bias[16 * warp + lane / 4 + 8];
  // Matrices of 8x8 go to and from staging four at a time: this thread's row of them. Its first row stays empty, so
  // that columns lie as they do in memory.
  const int key = (lane % 8 + 1) & 7;
  const u32 corner =
      stage + (8 * (lane / 16) + lane % 8 + 1) * PIXEL + (((2 * warp + (lane / 8) % 2) ^ key) << 4);

  int released = 0;
  auto release = [&](int until) {
    for (; released < until; released++)
      if (lane == 0) arrive(empty + 8 * (released % SLOTS));
  };
  if (group == 1) pass(next, CONSUMERS * WARPGROUP);  // the other one begins
  release(begin + group < end ? first(begin + group) : 0);
  wait(ready, 0);

  u32 parity = 0;
  for (int unit = begin + group; unit < end; unit += CONSUMERS) {
    const Place place = place_of(unit, strips, height);
    const size_t target = offset(place, 1, 1, height, pitch);
    if (thread == 0) {
      asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
      if (residual) {
        expect(mine, STAGED);
        fetch(stage + PIXEL, residual + target, STAGED, mine);
      }
    }
    const int row = first(unit);
    u32 pixels[3];
#pragma unroll
    for (int ky = 0; ky < 3; ky++) {
      const int slot = (row + ky) % SLOTS;
      pixels[ky] = base + RING + slot * SLOT;
      wait(full + 8 * slot, (row + ky) / SLOTS & 1);
    }
    meet(turn, CONSUMERS * WARPGROUP);  // one multiplies while the other finishes
    float sums[64];
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    settle(sums);
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++)
#pragma unroll
      for (int k = 0; k < 4; k++)
        multiply(sums, descriptor(base + tap * TAP + 32 * k), descriptor(pixels[tap / 3] + tap % 3 * PIXEL + 32 * k),
                 tap + k > 0);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    pass(next, CONSUMERS * WARPGROUP);
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    settle(sums);
    release(unit + CONSUMERS < end ? first(unit + CONSUMERS) : row + 1);

    if (residual) {
      wait(mine, parity);
      parity ^= 1;
    } else {
      meet(own, WARPGROUP);  // staging is free
    }
    const int left = width - place.strip * STRIP;  // columns inside the frame
#pragma unroll
    for (int j = 0; j < 16; j += 2) {
      u32 r[4] = {0, 0, 0, 0};
      if (residual)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(corner + 8 * j * PIXEL) : "memory");
#pragma unroll
      for (int m = 0; m < 4; m++) {
        const int at = 4 * (j + m / 2) + 2 * (m % 2);
        float a = sums[at] + (m % 2 ? high : low), b = sums[at + 1] + (m % 2 ? high : low);
        a = fmaxf(a, a * slope), b = fmaxf(b, b * slope);
        if (residual) {
          const float2 old = floats(r[m]);
          a += old.x, b += old.y;
        }
        const int column = 8 * (j + m / 2) + 2 * (lane % 4);
        if (column >= left) a = 0;
        if (column + 1 >= left) b = 0;
        r[m] = pair(a, b);
      }
      asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(corner + 8 * j * PIXEL),
                   "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    meet(own, WARPGROUP);
    if (thread == 0) put(y + target, stage + PIXEL, STAGED);
  }
  if (thread == 0) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

#if CODE_BYTES == 1
typedef u8 Code;
#else
typedef u16 Code;
#endif

// One tile of 16x8 sums by tensor cores: sums += a (16x16) * b (16x8).
#define MULTIPLY(TYPE, d, a, b)                                                                          \
  asm("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "         \
      "{%8,%9}, {%0,%1,%2,%3};"                                                                          \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                   \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

static __device__ __forceinline__ u32 halves(float a, float b) {
  u32 v;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a));
  return v;
}

// Codes to the first map. A warp computes 16 columns, going down: the nine taps are the inner dimension of the
// product, filled up to 16 with zeros; fp16 whatever the maps are, which codes and their weights fit better.
static_assert(HEAD_COLUMNS == 64, "four warps");

extern "C" __global__ void __launch_bounds__(128)
    head(const Code* codes, const float* weights, const float* bias, u8* y, int height, int width, int pitch,
         float slope, float scale) {
  const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const int x0 = blockIdx.x * HEAD_COLUMNS + threadIdx.x / 32 * 16, top = blockIdx.y * HEAD_ROWS;
  codes += (size_t)blockIdx.z * height * width;
  // Columns of the product in an order by which a thread gets 16 channels in a row: tile t, column j is channel
  // 16 (j / 2) + 2 t + j % 2.
  u32 b[8][2];
  float start[8][2];
#pragma unroll
  for (int t = 0; t < 8; t++) {
    const int channel = 16 * (g / 2) + 2 * t + g % 2;
    b[t][0] = halves(weights[2 * q * 64 + channel], weights[(2 * q + 1) * 64 + channel]);
    b[t][1] = q ? 0 : halves(weights[8 * 64 + channel], 0.0f);
    start[t][0] = bias[16 * q + 2 * t], start[t][1] = bias[16 * q + 2 * t + 1];
  }
  auto code = [&](int row, int column) {
    const bool inside = row >= 0 && row < height && column >= 0 && column < width;
    return inside ? codes[(size_t)row * width + column] * scale - 1.0f : 0.0f;
  };
  const int bottom = min(top + HEAD_ROWS, height);
#pragma unroll 2
  for (int row = top; row < bottom; row++) {
    u32 a[4];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int x = x0 + g + 8 * i;
      const int one = 2 * q, two = 2 * q + 1;
      a[i] = halves(code(row + one / 3 - 1, x + one % 3 - 1), code(row + two / 3 - 1, x + two % 3 - 1));
      a[2 + i] = q ? 0 : halves(code(row + 1, x + 1), 0.0f);
    }
    u32 out[2][8];
#pragma unroll
    for (int t = 0; t < 8; t++) {
      float d[4] = {start[t][0], start[t][1], start[t][0], start[t][1]};
      MULTIPLY("f16", d, a, b[t]);
#pragma unroll
      for (int i = 0; i < 4; i++) d[i] = fmaxf(d[i], d[i] * slope);
      out[0][t] = pair(d[0], d[1]), out[1][t] = pair(d[2], d[3]);
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int x = x0 + g + 8 * i;
      if (x >= width) continue;
      u8* at = y + (((size_t)blockIdx.z * (height + 2) + row + 1) * pitch + x + 1) * PIXEL;
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<uint4*>(at + (((2 * q + half) ^ ((x + 1) & 7)) << 4)) =
            make_uint4(out[i][4 * half], out[i][4 * half + 1], out[i][4 * half + 2], out[i][4 * half + 3]);
    }
  }
}

// The last map to codes: one output channel, tanh, the picture's sum, clamp and rounding. What a pixel gives to each
// of the nine outputs around it is one product of its channels with the taps' weights; the nine are then gathered
// from shared memory. A block reads 64 columns, each once, going down, and finishes the 62 between.
constexpr int TAIL_STRIDE = 68;  // so that a warp's shares go to different banks
static_assert(TAIL_COLUMNS == 62, "four warps of 16 columns, of which the outer two have neighbours elsewhere");

extern "C" __global__ void __launch_bounds__(128)
    tail(const u8* x, const float* weights, float bias, const Code* codes, const float* strengths, Code* restored,
         int height, int width, int pitch, float scale, float top_code, int global_residual) {
  __shared__ float shares[4][TAPS][TAIL_STRIDE];
  const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, warp = threadIdx.x / 32;
  const int left = blockIdx.x * TAIL_COLUMNS, top = blockIdx.y * TAIL_ROWS;  // of the outputs; the map's column there
  x += (size_t)blockIdx.z * (height + 2) * pitch * PIXEL;                    // is one to the left
  codes += (size_t)blockIdx.z * height * width;
  restored += (size_t)blockIdx.z * height * width;
  const float strength = strengths[blockIdx.z];
  // Channels in an order by which a thread reads whole chunks, q and q + 4 of a pixel; the sum is the same.
  u32 b[4][2][2];
#pragma unroll
  for (int s = 0; s < 4; s++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int channel = s / 2 * 32 + 8 * q + 4 * (s % 2) + 2 * i;
      b[s][0][i] = pair(weights[g * 64 + channel], weights[g * 64 + channel + 1]);
      b[s][1][i] = g ? 0 : pair(weights[8 * 64 + channel], weights[8 * 64 + channel + 1]);
    }
  const u8* places[2][2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int column = min(left + 16 * warp + g + 8 * i, pitch - 1);
#pragma unroll
    for (int half = 0; half < 2; half++)
      places[i][half] = x + (size_t)column * PIXEL + (((q + 4 * half) ^ (column & 7)) << 4);
  }
  auto load = [&](uint4 (&v)[2][2], int row) {
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        v[i][half] = __ldg(reinterpret_cast<const uint4*>(places[i][half] + (size_t)(row + 1) * pitch * PIXEL));
  };
  const int bottom = min(top + TAIL_ROWS, height);
  uint4 now[2][2], ahead[2][2];
  load(ahead, top - 1);
  for (int row = top - 1; row <= bottom; row++) {
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
      for (int half = 0; half < 2; half++) now[i][half] = ahead[i][half];
    if (row < bottom) load(ahead, row + 1);
    float d[2][4] = {};
#pragma unroll
    for (int s = 0; s < 4; s++) {
      const uint4 &one = now[0][s / 2], &two = now[1][s / 2];
      const u32 a[4] = {s % 2 ? one.z : one.x, s % 2 ? two.z : two.x, s % 2 ? one.w : one.y, s % 2 ? two.w : two.y};
      MULTIPLY(PTX_TYPE, d[0], a, b[s][0]);
      MULTIPLY(PTX_TYPE, d[1], a, b[s][1]);
    }
    float(*share)[TAIL_STRIDE] = shares[(row + 1) & 3];
    const int at = 16 * warp + g;
    share[2 * q][at] = d[0][0], share[2 * q + 1][at] = d[0][1];
    share[2 * q][at + 8] = d[0][2], share[2 * q + 1][at + 8] = d[0][3];
    if (q == 0) share[8][at] = d[1][0], share[8][at + 8] = d[1][2];
    __syncthreads();
    const int column = left + threadIdx.x;
    if (row <= top || threadIdx.x >= TAIL_COLUMNS || column >= width) continue;
    float sum = bias;
#pragma unroll
    for (int tap = 0; tap < TAPS; tap++) sum += shares[(row - 1 + tap / 3) & 3][tap][threadIdx.x + tap % 3];
    const size_t place = (size_t)(row - 1) * width + column;
    const float picture = codes[place] * scale - 1.0f;
    float y = tanhf(sum);
    if (global_residual) y += picture;
    y = fminf(fmaxf(y, -1.0f), 1.0f);
    y = strength < 0.5f ? picture + strength * (y - picture) : y - (y - picture) * (1.0f - strength);
    restored[place] = (Code)fminf(fmaxf(rintf((y + 1.0f) * (top_code * 0.5f)), 0.0f), top_code);
  }
}
