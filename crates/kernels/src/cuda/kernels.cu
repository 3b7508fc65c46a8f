// Kernels of the encoder on CUDA. They are compiled at start-up, for the device at hand.
//
// Maps lie channels last, (image, row, column, channel), and are made of `Number`: f32, or bf16 where NUMBER_BYTES is 2.
// Whatever is computed is computed in f32. `rows` counts the pixels of all images. Channels are a multiple of 64, so
// that a warp reads one pixel's neighbouring channels, and a thread a pack of them, 16 bytes.
// A batch norm's `norm` holds four vectors: the mean, one over the deviation, and the scale and offset that make
// `x * scale + offset` of them. Every sum is taken in a fixed order: the same input gives the same bits.

typedef unsigned int u32;

struct Window {
    int height, width, channels;
    int kernel, stride, padding;
    int out_height, out_width;
};

struct Color {
    float mean[3], deviation[3];
};

struct Step {
    float keep, beta1, one_minus_beta1, beta2, one_minus_beta2, rate, root_correction, epsilon;
};

#define EACH(index, total) \
    for (u32 index = blockIdx.x * blockDim.x + threadIdx.x; index < total; index += gridDim.x * blockDim.x)

// Blocks of sums: 32 times WIDE channels by 8 rows.
#define LANES 8

// Numbers in 16 bytes, and in 4.
#define PACK (16 / NUMBER_BYTES)
#define WIDE (4 / NUMBER_BYTES)

struct Pack {
    float v[PACK];
};

struct Wide {
    float v[WIDE];
};

// The numbers of a pack, one by one.
#define OF_PACK(j) _Pragma("unroll") for (int j = 0; j < PACK; j++)
#define OF_WIDE(j) _Pragma("unroll") for (int j = 0; j < WIDE; j++)

#if NUMBER_BYTES == 2
// A bf16 is the upper half of an f32.
typedef unsigned short Number;

__device__ float lower(u32 pair) { return __uint_as_float(pair << 16); }
__device__ float upper(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
// The nearest, the even one of two; NaN stays NaN.
__device__ u32 round_pair(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
__device__ float load_one(const Number *x, u32 i) { return lower(x[i]); }
__device__ void store_one(Number *x, u32 i, float value) { x[i] = (Number)round_pair(value, 0.f); }
__device__ Wide load_wide(const Number *x, u32 i) {
    const u32 pair = *(const u32 *)(x + i);
    return {lower(pair), upper(pair)};
}
__device__ Pack load(const Number *x, u32 i) {
    const uint4 raw = ((const uint4 *)x)[i];
    return {lower(raw.x), upper(raw.x), lower(raw.y), upper(raw.y), lower(raw.z), upper(raw.z), lower(raw.w), upper(raw.w)};
}
__device__ void store(Number *x, u32 i, Pack p) {
    ((uint4 *)x)[i] = make_uint4(round_pair(p.v[0], p.v[1]), round_pair(p.v[2], p.v[3]), round_pair(p.v[4], p.v[5]),
                                 round_pair(p.v[6], p.v[7]));
}
// A pack of a vector, which is f32 always.
__device__ Pack load_vector(const float *x, u32 i) {
    const float4 a = ((const float4 *)x)[2 * i], b = ((const float4 *)x)[2 * i + 1];
    return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
}
#else
typedef float Number;

__device__ float load_one(const Number *x, u32 i) { return x[i]; }
__device__ void store_one(Number *x, u32 i, float value) { x[i] = value; }
__device__ Wide load_wide(const Number *x, u32 i) { return {x[i]}; }
__device__ Pack load(const Number *x, u32 i) {
    const float4 raw = ((const float4 *)x)[i];
    return {raw.x, raw.y, raw.z, raw.w};
}
__device__ void store(Number *x, u32 i, Pack p) { ((float4 *)x)[i] = make_float4(p.v[0], p.v[1], p.v[2], p.v[3]); }
// A pack of a vector.
__device__ Pack load_vector(const float *x, u32 i) { return load(x, i); }
#endif

// NaN passes, so that a diverged training shows.
__device__ float relu(float x) { return x < 0.f ? 0.f : x; }

// The columns of a convolution: one row a pixel of the output, holding the window's values, (kernel, kernel, channel).
extern "C" __global__ void columns(const uint4 *x, uint4 *result, Window w, u32 total) {
    const u32 packs = w.channels / PACK;
    EACH(i, total) {
        u32 rest = i;
        const u32 pack = rest % packs;
        rest /= packs;
        const int kx = rest % w.kernel;
        rest /= w.kernel;
        const int ky = rest % w.kernel;
        rest /= w.kernel;
        const int ox = rest % w.out_width;
        rest /= w.out_width;
        const int oy = rest % w.out_height;
        const u32 image = rest / w.out_height;
        const int y = oy * w.stride + ky - w.padding, column = ox * w.stride + kx - w.padding;
        const bool inside = y >= 0 && y < w.height && column >= 0 && column < w.width;
        result[i] = inside ? x[((image * w.height + y) * w.width + column) * packs + pack] : make_uint4(0, 0, 0, 0);
    }
}

// One of three, without a detour through memory.
__device__ float of_channel(const float *values, int channel) {
    return channel == 0 ? values[0] : channel == 1 ? values[1] : values[2];
}

// The same for the stem: pixels are normalised on the way, and a row is filled with 0 to `row_length`.
extern "C" __global__ void stem_columns(const unsigned char *pixels, Number *result, Window w, Color color,
                                        u32 row_length, u32 total) {
    const u32 packs = row_length / PACK;
    EACH(i, total) {
        u32 rest = i;
        const int place = rest % packs * PACK;
        rest /= packs;
        const int ox = rest % w.out_width;
        rest /= w.out_width;
        const int oy = rest % w.out_height;
        const u32 image = rest / w.out_height;
        int channel = place % 3, kx = place / 3 % w.kernel, ky = place / 3 / w.kernel;
        Pack values;
        OF_PACK(j) {
            const int y = oy * w.stride + ky - w.padding, column = ox * w.stride + kx - w.padding;
            float value = 0.f;
            if (ky < w.kernel && y >= 0 && y < w.height && column >= 0 && column < w.width) {
                const float pixel = pixels[((image * w.height + y) * w.width + column) * 3 + channel];
                value = (pixel / 255.f - of_channel(color.mean, channel)) / of_channel(color.deviation, channel);
            }
            values.v[j] = value;
            if (++channel == 3) {
                channel = 0;
                if (++kx == w.kernel) {
                    kx = 0;
                    ky++;
                }
            }
        }
        store(result, i, values);
    }
}

// The gradient at a convolution's input, from the gradient at its columns; `base`, where given, is added.
// Strides are 1 or 2, which spares the divisions.
extern "C" __global__ void columns_backward(const Number *grad, const Number *base, Number *result, Window w, u32 total) {
    const u32 packs = w.channels / PACK;
    const int odd = w.stride - 1;
    EACH(i, total) {
        u32 rest = i;
        const u32 pack = rest % packs;
        rest /= packs;
        const int column = rest % w.width;
        rest /= w.width;
        const int y = rest % w.height;
        const u32 image = rest / w.height;
        Pack sum = {};
        if (base) sum = load(base, i);
        for (int ky = 0; ky < w.kernel; ky++) {
            const int top = y + w.padding - ky;
            const int oy = top >> odd;
            if (top < 0 || top & odd || oy >= w.out_height) continue;
            for (int kx = 0; kx < w.kernel; kx++) {
                const int left = column + w.padding - kx;
                const int ox = left >> odd;
                if (left < 0 || left & odd || ox >= w.out_width) continue;
                const u32 row = (image * w.out_height + oy) * w.out_width + ox;
                const Pack g = load(grad, ((row * w.kernel + ky) * w.kernel + kx) * packs + pack);
                OF_PACK(j) sum.v[j] += g.v[j];
            }
        }
        store(result, i, sum);
    }
}

// Sums of one part of the rows, per channel. Block (32, LANES), grid (channels / 32 / WIDE, parts).
__device__ void store_part(Wide first, Wide second, float2 *parts, u32 channel, u32 channels) {
    __shared__ float2 lanes[LANES][WIDE][32];
    OF_WIDE(j) lanes[threadIdx.y][j][threadIdx.x] = make_float2(first.v[j], second.v[j]);
    __syncthreads();
    if (threadIdx.y == 0) {
        OF_WIDE(j) {
            float2 sum = lanes[0][j][threadIdx.x];
            for (int lane = 1; lane < LANES; lane++) {
                sum.x += lanes[lane][j][threadIdx.x].x;
                sum.y += lanes[lane][j][threadIdx.x].y;
            }
            parts[blockIdx.y * channels + channel + j] = sum;
        }
    }
}

// All parts together, valid where threadIdx.y is 0. Block (32, LANES), grid (channels / 32).
__device__ double2 sum_parts(const float2 *parts, u32 count, u32 channel, u32 channels) {
    __shared__ double2 lanes[LANES][32];
    double2 sum = make_double2(0., 0.);
    for (u32 part = threadIdx.y; part < count; part += LANES) {
        const float2 value = parts[part * channels + channel];
        sum.x += value.x;
        sum.y += value.y;
    }
    lanes[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0) {
        for (int lane = 1; lane < LANES; lane++) {
            sum.x += lanes[lane][threadIdx.x].x;
            sum.y += lanes[lane][threadIdx.x].y;
        }
    }
    return sum;
}

// Sums of x - shift and of its square. The shift, the channel's first value, keeps a large mean from swallowing the
// variance.
extern "C" __global__ void statistics(const Number *x, float2 *parts, u32 rows, u32 channels, u32 rows_per_part) {
    const u32 channel = (blockIdx.x * 32 + threadIdx.x) * WIDE;
    const u32 begin = blockIdx.y * rows_per_part, end = min(rows, begin + rows_per_part);
    const Wide shift = load_wide(x, channel);
    Wide sum = {}, squares = {};
    for (u32 row = begin + threadIdx.y; row < end; row += LANES) {
        const Wide value = load_wide(x, row * channels + channel);
        OF_WIDE(j) {
            const float difference = value.v[j] - shift.v[j];
            sum.v[j] += difference;
            squares.v[j] += difference * difference;
        }
    }
    store_part(sum, squares, parts, channel, channels);
}

__device__ void store_norm(float mean, float inverse, float weight, float bias, float *norm, u32 channel, u32 channels) {
    norm[channel] = mean;
    norm[channels + channel] = inverse;
    norm[2 * channels + channel] = weight * inverse;
    norm[3 * channels + channel] = bias - mean * weight * inverse;
}

// The batch's normalisation, from the sums; moves the running statistics.
extern "C" __global__ void batch_norm(const Number *x, const float2 *parts, u32 count, const float *weight,
                                      const float *bias, float *running_mean, float *running_var, float *norm,
                                      u32 rows, u32 channels, float epsilon, float momentum) {
    const u32 channel = blockIdx.x * 32 + threadIdx.x;
    const double2 sums = sum_parts(parts, count, channel, channels);
    if (threadIdx.y == 0) {
        const double difference = sums.x / rows;
        const double variance = fmax(sums.y / rows - difference * difference, 0.);
        const double mean = load_one(x, channel) + difference;
        running_mean[channel] = running_mean[channel] * (1.f - momentum) + (float)mean * momentum;
        running_var[channel] = running_var[channel] * (1.f - momentum) + (float)(variance * rows / (rows - 1.)) * momentum;
        store_norm(mean, 1. / sqrt(variance + epsilon), weight[channel], bias[channel], norm, channel, channels);
    }
}

// The normalisation of inference, from the running statistics.
extern "C" __global__ void running_norm(const float *weight, const float *bias, const float *running_mean,
                                        const float *running_var, float *norm, u32 channels, float epsilon) {
    EACH(channel, channels) {
        store_norm(running_mean[channel], 1.f / sqrtf(running_var[channel] + epsilon), weight[channel], bias[channel],
                   norm, channel, channels);
    }
}

// Batch norm, the shortcut where given (normalised by its own norm where that is given), ReLU.
extern "C" __global__ void transform(const Number *x, const float *norm, const Number *shortcut,
                                     const float *shortcut_norm, Number *result, u32 channels, u32 total) {
    const u32 packs = channels / PACK;
    EACH(i, total) {
        const u32 pack = i % packs;
        const Pack scale = load_vector(norm + 2 * channels, pack), offset = load_vector(norm + 3 * channels, pack);
        Pack value = load(x, i);
        OF_PACK(j) value.v[j] = value.v[j] * scale.v[j] + offset.v[j];
        if (shortcut) {
            Pack other = load(shortcut, i);
            if (shortcut_norm) {
                const Pack scale = load_vector(shortcut_norm + 2 * channels, pack);
                const Pack offset = load_vector(shortcut_norm + 3 * channels, pack);
                OF_PACK(j) other.v[j] = other.v[j] * scale.v[j] + offset.v[j];
            }
            OF_PACK(j) value.v[j] += other.v[j];
        }
        OF_PACK(j) value.v[j] = relu(value.v[j]);
        store(result, i, value);
    }
}

// Sums of the gradient g and of g times the normalised x; `out`, where given, is the ReLU's output that masks g.
extern "C" __global__ void norm_backward_sums(const Number *grad, const Number *out, const Number *x, const float *norm,
                                              float2 *parts, u32 rows, u32 channels, u32 rows_per_part) {
    const u32 channel = (blockIdx.x * 32 + threadIdx.x) * WIDE;
    const u32 begin = blockIdx.y * rows_per_part, end = min(rows, begin + rows_per_part);
    Wide mean, inverse, sum = {}, products = {};
    OF_WIDE(j) {
        mean.v[j] = norm[channel + j];
        inverse.v[j] = norm[channels + channel + j];
    }
    for (u32 row = begin + threadIdx.y; row < end; row += LANES) {
        const u32 i = row * channels + channel;
        Wide g = load_wide(grad, i);
        if (out) {
            const Wide behind = load_wide(out, i);
            OF_WIDE(j) g.v[j] = behind.v[j] > 0.f ? g.v[j] : 0.f;
        }
        const Wide value = load_wide(x, i);
        OF_WIDE(j) {
            sum.v[j] += g.v[j];
            products.v[j] += g.v[j] * ((value.v[j] - mean.v[j]) * inverse.v[j]);
        }
    }
    store_part(sum, products, parts, channel, channels);
}

extern "C" __global__ void norm_gradients(const float2 *parts, u32 count, float *weight_grad, float *bias_grad,
                                          u32 channels) {
    const u32 channel = blockIdx.x * 32 + threadIdx.x;
    const double2 sums = sum_parts(parts, count, channel, channels);
    if (threadIdx.y == 0) {
        bias_grad[channel] = sums.x;
        weight_grad[channel] = sums.y;
    }
}

// The gradient at a batch norm's input; `masked`, where given, gets the gradient behind the ReLU, for the shortcut.
extern "C" __global__ void norm_backward(const Number *grad, const Number *out, const Number *x, const float *norm,
                                         const float *weight_grad, const float *bias_grad, Number *masked,
                                         Number *result, float one_over_rows, u32 channels, u32 total) {
    const u32 packs = channels / PACK;
    EACH(i, total) {
        const u32 pack = i % packs;
        Pack g = load(grad, i);
        if (out) {
            const Pack behind = load(out, i);
            OF_PACK(j) g.v[j] = behind.v[j] > 0.f ? g.v[j] : 0.f;
        }
        if (masked) store(masked, i, g);
        const Pack value = load(x, i);
        const Pack mean = load_vector(norm, pack), inverse = load_vector(norm + channels, pack);
        const Pack scale = load_vector(norm + 2 * channels, pack);
        const Pack products = load_vector(weight_grad, pack), sums = load_vector(bias_grad, pack);
        Pack at_input;
        OF_PACK(j) {
            const float share = sums.v[j] + (value.v[j] - mean.v[j]) * inverse.v[j] * products.v[j];
            at_input.v[j] = scale.v[j] * (g.v[j] - share * one_over_rows);
        }
        store(result, i, at_input);
    }
}

// A place where no gradient passes: the maximum is no larger than 0.
#define NOWHERE 255u

// Batch norm, ReLU and max-pooling; `places` keeps where in its window a maximum stands, the first of equal ones, or
// NOWHERE.
extern "C" __global__ void max_pool(const Number *x, const float *norm, Number *result, u32 *places, Window w,
                                    u32 total) {
    const u32 packs = w.channels / PACK;
    EACH(i, total) {
        u32 rest = i;
        const u32 pack = rest % packs;
        rest /= packs;
        const int ox = rest % w.out_width;
        rest /= w.out_width;
        const int oy = rest % w.out_height;
        const u32 image = rest / w.out_height;
        const Pack scale = load_vector(norm + 2 * w.channels, pack), offset = load_vector(norm + 3 * w.channels, pack);
        Pack largest = {};
        u32 place[PACK];
        OF_PACK(j) place[j] = NOWHERE;
        for (int ky = 0; ky < w.kernel; ky++) {
            const int y = oy * w.stride + ky - w.padding;
            if (y < 0 || y >= w.height) continue;
            for (int kx = 0; kx < w.kernel; kx++) {
                const int column = ox * w.stride + kx - w.padding;
                if (column < 0 || column >= w.width) continue;
                const Pack raw = load(x, ((image * w.height + y) * w.width + column) * packs + pack);
                OF_PACK(j) {
                    const float value = relu(raw.v[j] * scale.v[j] + offset.v[j]);
                    if (value > largest.v[j] || value != value) {
                        largest.v[j] = value;
                        place[j] = ky * w.kernel + kx;
                    }
                }
            }
        }
        store(result, i, largest);
        if (places) {
            // Four bytes at once.
            u32 bytes[PACK / 4] = {};
            OF_PACK(j) bytes[j / 4] |= (largest.v[j] > 0.f ? place[j] : NOWHERE) << j % 4 * 8;
            _Pragma("unroll") for (int k = 0; k < PACK / 4; k++) places[i * (PACK / 4) + k] = bytes[k];
        }
    }
}

// The gradient behind the ReLU in front of a max-pooling, whose strides are 1 or 2.
extern "C" __global__ void max_pool_backward(const Number *grad, const u32 *places, Number *result, Window w, u32 total) {
    const u32 packs = w.channels / PACK;
    const int odd = w.stride - 1;
    EACH(i, total) {
        u32 rest = i;
        const u32 pack = rest % packs;
        rest /= packs;
        const int column = rest % w.width;
        rest /= w.width;
        const int y = rest % w.height;
        const u32 image = rest / w.height;
        Pack sum = {};
        for (int ky = 0; ky < w.kernel; ky++) {
            const int top = y + w.padding - ky;
            const int oy = top >> odd;
            if (top < 0 || top & odd || oy >= w.out_height) continue;
            for (int kx = 0; kx < w.kernel; kx++) {
                const int left = column + w.padding - kx;
                const int ox = left >> odd;
                if (left < 0 || left & odd || ox >= w.out_width) continue;
                const u32 at = ((image * w.out_height + oy) * w.out_width + ox) * packs + pack;
                const u32 here = ky * w.kernel + kx;
                const Pack g = load(grad, at);
                u32 bytes[PACK / 4];
                _Pragma("unroll") for (int k = 0; k < PACK / 4; k++) bytes[k] = places[at * (PACK / 4) + k];
                OF_PACK(j) {
                    if ((bytes[j / 4] >> j % 4 * 8 & 255u) == here) sum.v[j] += g.v[j];
                }
            }
        }
        store(result, i, sum);
    }
}

extern "C" __global__ void average_pool(const Number *x, float *result, u32 pixels, u32 channels, u32 total) {
    EACH(i, total) {
        const u32 channel = i % channels, image = i / channels;
        float sum = 0.f;
        for (u32 pixel = 0; pixel < pixels; pixel++) {
            sum += load_one(x, (image * pixels + pixel) * channels + channel);
        }
        result[i] = sum / pixels;
    }
}

extern "C" __global__ void average_pool_backward(const float *grad, Number *result, u32 pixels, u32 channels, u32 total) {
    EACH(i, total) {
        const u32 channel = i % channels, image = i / channels / pixels;
        store_one(result, i, grad[image * channels + channel] / pixels);
    }
}

// Weights as products read them, where that is not in f32.
extern "C" __global__ void round_weights(const float *weights, Number *rounded, u32 total) {
    EACH(i, total) store_one(rounded, i, weights[i]);
}

// AdamW over all parameters; the first `decayed` of them are weights that decay, and that go to `rounded`, where given.
extern "C" __global__ void adamw(float *parameters, float *first, float *second, const float *grad, Number *rounded,
                                 Step s, u32 decayed, u32 total) {
    EACH(i, total) {
        const float g = grad[i];
        const float m = first[i] * s.beta1 + g * s.one_minus_beta1;
        const float v = second[i] * s.beta2 + g * g * s.one_minus_beta2;
        const float kept = i < decayed ? parameters[i] * s.keep : parameters[i];
        const float moved = kept - m / (sqrtf(v) / s.root_correction + s.epsilon) * s.rate;
        first[i] = m;
        second[i] = v;
        parameters[i] = moved;
        if (rounded && i < decayed) store_one(rounded, i, moved);
    }
}
